"""What the bottleneck methods on pairs share: noise and settings per tower, results as a pair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from captum_ib.attr.base import (
    FIT_OPTIONS,
    BottleneckAttribution,
    Explained,
    Layers,
    Noise,
    Plan,
    fit_passes,
)
from captum_ib.attr.options import PerTower
from captum_ib.bottleneck import ActivationStatistics, FitSettings
from captum_ib.checks import BatchSize, require_choice, require_weight
from captum_ib.facts import BITS, Facts
from captum_ib.forward import Call, TowerCall, per_call, require_dual, tower_layers
from captum_ib.layout import TokenLayout
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import LayerLike, NamedLayer


def pair_facts(paper: str, description: str, passes: str = "") -> Facts:
    """What is known of a method on pairs, whose map is in bits."""
    return Facts(
        takes=frozenset({"dual"}),
        unit=BITS,
        signed=False,
        paper=paper,
        description=description,
        passes=f"{fit_passes(4)}{passes}, per tower",
        layers="many",
        options=FIT_OPTIONS,
    )


TowerLayers = Layers[TowerCall]
"""The layers of one tower: the call's output is the tower's embedding, ``call.other`` is e'."""


class PairAttribution(BottleneckAttribution):
    """Base of M2IB, CA-M2IB and CoM2IB.

    Args:
        forward_func: a :class:`~captum_ib.models.dual_encoder.DualEncoder`.
        layers: one block per tower (module, dotted name, or ``None``); default: the block at
            ⌊0.75 · depth⌋ (9 of 12), the paper's.

    Attributes:
        dual: the dual encoder.
        layers: all layers, as ``(name, module)``.
        sites: the layers of each tower.
        statistics: what ``estimate`` found, or ``None``.
    """

    def __init__(
        self, forward_func: DualEncoder, layers: Sequence[LayerLike | None] | None = None
    ) -> None:
        self.dual = require_dual(forward_func, self.get_name())
        super().__init__(self.dual, self._chosen(layers))
        self.layers = [layer for layers in self.sites for layer in layers]

    def _chosen(self, layers: Any) -> list[list[NamedLayer]]:
        """The layers of each tower."""
        return [[layer] for layer in tower_layers(self.dual, layers, self.get_name())]

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
    internal_batch_size: BatchSize,
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
