"""Noise and prior of a layer: from the sample itself, from reference inputs, or N(0, σ²)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum_ib.attr._settings import BottleneckSettings
from captum_ib.bottleneck import ActivationStatistics
from captum_ib.layout import TokenLayout

INACTIVE_SHARE = 0.01
"""A neuron that is non-zero in at most this share of the cases is dead (Schulz et al., code)."""


class Prior(NamedTuple):
    """Noise and prior N(mean, std²) of one layer, broadcastable to ``(N, *layer_shape)``.

    ``active`` is 0 for dead neurons, whose information does not count; ``None``: all are alive.
    """

    mean: Tensor
    std: Tensor
    active: Tensor | None = None


def own_prior(
    activation: Tensor, layout: TokenLayout, valid: Tensor | None, settings: BottleneckSettings
) -> Prior:
    """Noise from a sample's own activation: mean and variance over its positions, per channel.

    A flat layer has no positions; its elements take their place.
    """
    values = activation.detach().float()
    flat = layout.kind == "flat"
    axes = tuple(axis for axis in range(1, values.ndim) if flat or axis != layout.channel_axis)
    weight = torch.ones((), device=values.device)
    if valid is not None and not flat:
        weight = valid.to(values).unsqueeze(layout.channel_axis)
    weight = weight.expand_as(values)
    total = weight.sum(dim=axes, keepdim=True).clamp_min(1.0)
    mean = (values * weight).sum(dim=axes, keepdim=True) / total
    variance = ((values - mean).square() * weight).sum(dim=axes, keepdim=True) / total
    active = None
    if settings.mask_inactive:
        share = ((values != 0) * weight).sum(dim=axes, keepdim=True) / total
        active = (share > INACTIVE_SHARE).float()
    return Prior(mean, variance.sqrt().clamp_min(settings.min_std), active)


def reference_prior(
    statistics: ActivationStatistics,
    name: str,
    activation: Tensor,
    layout: TokenLayout,
    settings: BottleneckSettings,
) -> Prior:
    """Noise from statistics over reference inputs, element by element.

    References of a sequence layer may be longer than the sample; the positions behind are not used.

    Raises:
        ValueError: statistics of another layer, shape, or of fewer than 2 inputs.
    """
    shape = tuple(activation.shape[1:])
    if layout.kind == "sequence" and name in statistics:
        longest = statistics.shape(name)
        statistics.require(name, (max(shape[0], longest[0]), *shape[1:]))
    else:
        statistics.require(name, shape)

    def fitting(values: Tensor) -> Tensor:
        values = values[: shape[0]] if layout.kind == "sequence" else values
        return values.to(activation.device, torch.float32).unsqueeze(0)

    return Prior(
        fitting(statistics.mean(name)),
        fitting(statistics.std(name, settings.min_std)),
        fitting(statistics.active(name, INACTIVE_SHARE)) if settings.mask_inactive else None,
    )


def standard_prior(activation: Tensor, variance: float) -> Prior:
    """N(0, σ²), M2IB's noise and prior (Wang et al., section 3.3)."""
    like = {"device": activation.device, "dtype": torch.float32}
    return Prior(torch.zeros((), **like), torch.full((), variance**0.5, **like))
