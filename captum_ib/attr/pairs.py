"""What the bottleneck methods on pairs share: noise and settings per tower, results as a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from captum_ib.attr.base import BottleneckAttribution, Explained, Layers, Noise, Plan
from captum_ib.attr.options import PerTower
from captum_ib.bottleneck import ActivationStatistics, FitSettings
from captum_ib.checks import require_choice, require_weight
from captum_ib.forward import Call, TowerCall, per_call
from captum_ib.layout import TokenLayout
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import NamedLayer

TowerLayers = Layers[TowerCall]
"""The layers of one tower: the call's output is the tower's embedding, ``call.other`` is e'."""


class PairAttribution(BottleneckAttribution):
    """Base of M2IB, CA-M2IB and CoM2IB.

    Args:
        dual: the dual encoder.
        sites: per tower, the layers of its bottlenecks.

    Attributes:
        dual: the dual encoder.
        sites: as given.
        statistics: what ``estimate`` found, or ``None``.
    """

    def __init__(self, dual: DualEncoder, sites: Sequence[Sequence[NamedLayer]]) -> None:
        self.dual = dual
        super().__init__(dual, sites)

    def _noises(
        self,
        calls: Sequence[Call],
        baselines: tuple[Tensor, ...] | ActivationStatistics | None,
        prior: str,
        variance: PerTower,
        min_std: float,
    ) -> list[Noise]:
        """Noise and prior of each tower's layers."""
        require_choice("prior", prior, ("standard", "estimated"))
        statistics = self.statistics_for(calls, baselines)
        variances = [Noise(variance=one).variance for one in per_call(variance, "variance", calls)]
        if prior == "standard":
            return [Noise(None, one, min_std=min_std) for one in variances]
        return [Noise(statistics, None, min_std=min_std) for _ in calls]


def pair_plans(
    noises: Sequence[Noise],
    fitting: FitSettings,
    seed: int,
    layouts: Sequence[TokenLayout | None],
    internal_batch_size: int | None,
    replay: bool,
    trace: bool,
) -> list[Plan]:
    """How each tower's fit is carried out."""
    return [
        Plan(noise, fitting, seed, False, layout, internal_batch_size, replay, trace)
        for noise, layout in zip(noises, layouts, strict=True)
    ]


def weights(
    name: str, value: PerTower, calls: Sequence[Call], *, positive: bool = False
) -> list[float]:
    """A weight for each tower, checked.

    Raises:
        TypeError, ValueError: no finite number, or a negative one.
    """
    return [require_weight(name, one, positive=positive) for one in per_call(value, name, calls)]


def pair_result(
    fits: Sequence[Explained], reduce: Literal["sum", "none"], return_trace: bool
) -> Any:
    """What ``attribute`` returns for a pair, with the towers' traces on request."""
    maps = tuple(one.attribution(reduce) for one in fits)
    return (maps, tuple(one.trace for one in fits)) if return_trace else maps
