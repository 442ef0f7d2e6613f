"""What the bottleneck methods on pairs share: settings and noise per tower, results as a pair."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import LayerAttribution
from torch import Tensor

from captum_ib.forward.call import Call, prepare
from captum_ib.attr._explain import Explained, MakePrior, Plan, estimate, explain
from captum_ib.attr._priors import Prior, own_prior, reference_prior, standard_prior
from captum_ib.forward.progress import progress
from captum_ib.attr._settings import BottleneckSettings
from captum_ib.bottleneck import ActivationStatistics
from captum_ib.hooks import untouched
from captum_ib.models.dual_encoder import DualEncoder, TowerView
from captum_ib.models.layers import NamedLayer
from captum_ib.layout import TokenLayout


def per_tower(value: Any, name: str) -> tuple[Any, Any]:
    """A setting for both towers: one value for both, or a pair.

    Raises:
        ValueError: a sequence of another length.
    """
    if not isinstance(value, (tuple, list)):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name} must be one value or one per tower, given {len(value)} values")
    return value[0], value[1]


def require_no_target(target: object) -> None:
    """Raise ``ValueError`` for a target: a pair has one output, its similarity."""
    if target is not None:
        raise ValueError(
            "a pair has one output, its cosine similarity, so target must be None, given "
            f"{target!r}"
        )


@dataclass(frozen=True)
class PairNoise:
    """Noise and prior of the two towers' bottlenecks.

    Attributes:
        prior: ``"standard"`` or ``"estimated"``.
        variance: σ² of the standard prior, per tower.
        statistics: of the layers over reference inputs; ``None``: the sample's own.
    """

    prior: str
    variance: tuple[float, float]
    statistics: ActivationStatistics | None = None

    def __post_init__(self) -> None:
        if self.prior not in ("standard", "estimated"):
            raise ValueError(f'prior must be "standard" or "estimated", given {self.prior!r}')
        for value in self.variance:
            if not 0 < value < float("inf"):
                raise ValueError(f"variance must be positive and finite, given {value}")

    def of_tower(self, index: int) -> MakePrior:
        """Noise and prior for the layers of one tower."""

        def make(
            name: str,
            activation: Tensor,
            layout: TokenLayout,
            valid: Tensor | None,
            settings: BottleneckSettings,
        ) -> Prior:
            if self.prior == "standard":
                return standard_prior(activation, self.variance[index])
            if self.statistics is None:
                return own_prior(activation, layout, valid, settings)
            return reference_prior(self.statistics, name, activation, layout, settings)

        return make


def pair_statistics(
    dual: DualEncoder, batches: Iterable[Any], layers: Sequence[Sequence[NamedLayer]]
) -> ActivationStatistics:
    """Statistics of the layers of both towers over reference pairs ``(first, second, *masks)``.

    The two sides need not have the same number of rows.

    Args:
        dual: the dual encoder.
        batches: the reference pairs.
        layers: per tower, its layers.

    Raises:
        TypeError: a batch that is no tuple of at least two tensors.
        ValueError: no batch.
    """
    parts: list[ActivationStatistics] = []
    for batch in batches:
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            raise TypeError(
                f"reference pairs must be tuples {dual.modalities[:2]} with their masks behind "
                f"them, given {type(batch).__name__}"
            )
        merged = ActivationStatistics()
        masks = dual.assign_masks(tuple(batch[2:]))
        sides = zip(dual.modalities[:2], batch[:2], masks, layers, strict=True)
        for modality, value, mask, wanted in sides:
            merged.layers.update(_one_side(dual, modality, value, mask, wanted).layers)
        parts.append(merged)
    return ActivationStatistics.merge_all(parts)


def _one_side(
    dual: DualEncoder,
    modality: str,
    value: Tensor,
    mask: Tensor | None,
    layers: Sequence[NamedLayer],
) -> ActivationStatistics:
    # What the tower is compared with does not matter here: only its layers are looked at.
    view = TowerView(dual, modality, torch.zeros(1, 1, device=value.device))
    call: Call = prepare(view, value, mask)
    return estimate(dual, [call], layers)


class PairAttribution(LayerAttribution):
    """Base of M2IB, CA-M2IB and CoM2IB: the two towers' layers and their noise.

    Args:
        forward_func: the dual encoder.
        sites: per tower, the layers of its bottlenecks.

    Attributes:
        dual: the dual encoder.
        sites: as given.
        statistics: what :meth:`estimate` found, or ``None``.
    """

    def __init__(self, forward_func: DualEncoder, sites: Sequence[Sequence[NamedLayer]]) -> None:
        self.dual = forward_func
        self.sites = [list(layers) for layers in sites]
        self.statistics: ActivationStatistics | None = None
        LayerAttribution.__init__(self, forward_func, self.sites[0][0][1])

    def get_name(self) -> str:
        """The name of the class, as the papers write it (Captum would put spaces into it)."""
        return type(self).__name__

    @untouched
    def estimate(self, loader: Iterable[Any]) -> ActivationStatistics:
        """Estimate mean and variance of all layers from reference pairs, and keep them.

        Used by every later ``attribute(prior="estimated")`` that is given no ``baselines``.

        Args:
            loader: batches ``(first, second, *masks)``; the sides may differ in their rows.
        """
        self.statistics = pair_statistics(self.dual, loader, self.sites)
        return self.statistics

    def _reference(
        self, baselines: tuple[Tensor, ...] | ActivationStatistics | None
    ) -> ActivationStatistics | None:
        if baselines is None or isinstance(baselines, ActivationStatistics):
            return baselines or self.statistics
        return pair_statistics(self.dual, [baselines], self.sites)

    def _fit(
        self, calls: Sequence[Call], plans: Sequence[Plan], show_progress: bool
    ) -> list[Explained]:
        """One fit per tower."""
        total = sum(plan.steps(call.n) for plan, call in zip(plans, calls, strict=True))
        with progress(total, self.get_name(), show_progress) as tick:
            return [
                explain(call, layers, None, plan, tick)
                for call, layers, plan in zip(calls, self.sites, plans, strict=True)
            ]


def require_dual(forward_func: object, name: str) -> DualEncoder:
    """The dual encoder that a method of pairs was given.

    Raises:
        TypeError: another object.
    """
    if not isinstance(forward_func, DualEncoder):
        raise TypeError(
            f"{name} explains pairs: forward_func must be a DualEncoder, given "
            f"{type(forward_func).__name__}; wrap the model with DualEncoder.from_model(model)"
        )
    return forward_func


def finish_pair(fits: Sequence[Explained], reduce: str, return_trace: bool) -> Any:
    """What ``attribute`` returns for a pair, with the towers' traces on request."""
    maps = tuple(result.attribution(reduce) for result in fits)
    return (maps, tuple(result.trace for result in fits)) if return_trace else maps
