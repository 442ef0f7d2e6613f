"""Bottlenecks in the layers of a running model: noise in, information out, one loss for the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_ib.bottleneck import (
    MIN_STD,
    ActivationStatistics,
    Damping,
    Gate,
    GridOperator,
    Site,
    gaussian_kl,
    to_bits,
)
from captum_ib.bottleneck.damping import area_matrix, gaussian_matrix
from captum_ib.hooks import Session
from captum_ib.models.layout import TokenLayout


class Prior(NamedTuple):
    """Noise and prior N(mean, std²) of one layer, broadcastable to ``(N, *layer_shape)``.

    ``active`` is 0 for dead neurons, whose information does not count; ``None``: all are alive.
    """

    mean: Tensor
    std: Tensor
    active: Tensor | None = None


@dataclass(frozen=True)
class BottleneckSettings:
    """What distinguishes the methods (DESIGN: the table of methods).

    Attributes:
        beta: weight of the compression term; one per layer with ``compression="layerwise"``.
        channel: ``"elementwise"`` (one λ per element), ``"uniform"`` (one per position) or
            ``"auto"``: elementwise on grids, uniform on sequences.
        damping: ``"shared"`` by all layers or ``"individual"``.
        compression: ``"upper_bound"``: information at the first bottleneck (CoIBA eq. 8);
            ``"layerwise"``: mean over the layers (CoIBA eq. 4).
        smoothing: σ of the Gaussian over positions, in grid cells; ``None``: none; ``"auto"``: 1
            on convolutional feature maps.
        mask_inactive: leave dead neurons out of the information; ``"auto"``: on convolutional
            feature maps.
        min_std: lower bound of σ.
    """

    beta: float | Sequence[float]
    channel: str = "elementwise"
    damping: str = "shared"
    compression: str = "upper_bound"
    smoothing: float | str | None = None
    mask_inactive: bool | str = False
    min_std: float = MIN_STD

    def __post_init__(self) -> None:
        choices = {
            "channel": ("elementwise", "uniform", "auto"),
            "damping": ("shared", "individual"),
            "compression": ("upper_bound", "layerwise"),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(allowed)}, given {getattr(self, name)!r}"
                )
        for beta in self.betas(1):
            if not 0 <= beta < float("inf"):
                raise ValueError(f"beta must be finite and not negative, given {beta}")
        if not self.min_std > 0:
            raise ValueError(f"min_std must be positive, given {self.min_std}")
        if isinstance(self.smoothing, str) and self.smoothing != "auto":
            raise ValueError(
                f'smoothing must be a number, None or "auto", given {self.smoothing!r}'
            )
        if isinstance(self.smoothing, (int, float)) and not self.smoothing > 0:
            raise ValueError(f"smoothing must be positive or None, given {self.smoothing}")
        if self.mask_inactive not in (True, False, "auto"):
            raise ValueError(
                f'mask_inactive must be True, False or "auto", given {self.mask_inactive!r}'
            )

    def resolved(self, layout: TokenLayout) -> BottleneckSettings:
        """With what ``"auto"`` means for a layer."""
        convolutional = layout.kind == "nchw"
        smoothing, mask = self.smoothing, self.mask_inactive
        channel = "elementwise" if layout.spatial else "uniform"
        return replace(
            self,
            smoothing=(1.0 if convolutional else None) if smoothing == "auto" else smoothing,
            mask_inactive=convolutional if mask == "auto" else mask,
            channel=channel if self.channel == "auto" else self.channel,
        )

    def betas(self, n_layers: int) -> list[float]:
        """β per layer."""
        if isinstance(self.beta, (int, float)):
            return [float(self.beta)] * n_layers
        return [float(value) for value in self.beta]


class Bottlenecks:
    """The bottlenecks of one fit.

    Args:
        session: the borrowed model; its layers are in running order.
        layouts: one per layer.
        priors: one per layer.
        objective: output ``(draws · N, …)`` → what to minimise, ``(draws · N,)``, nats.
        settings: see there.
        valid: ``(N, T)`` marks the tokens that count; ``None``: all.
    """

    def __init__(
        self,
        session: Session,
        layouts: Sequence[TokenLayout],
        priors: Sequence[Prior],
        objective: Callable[[Tensor], Tensor],
        settings: BottleneckSettings,
        valid: Tensor | None = None,
    ) -> None:
        self.session = session
        self.layouts = list(layouts)
        self.priors = list(priors)
        self.objective = objective
        self.settings = settings
        self.n = int(session.activations[0].shape[0])
        self.betas = settings.betas(len(layouts))
        if len(self.betas) != len(layouts):
            raise ValueError(f"given {len(self.betas)} values of beta for {len(layouts)} layers")
        self.weights = [
            _element_weights(activation, layout, prior, valid)
            for activation, layout, prior in zip(
                session.activations, self.layouts, self.priors, strict=True
            )
        ]
        self.dampings = build_dampings(session.activations, self.layouts, settings)
        first = self.priors[0]
        self._normalized = (session.activations[0].float() - first.mean) / first.std
        self._last_nats: list[Tensor] = []

    def groups(self) -> list[dict[str, Any]]:
        """The free parameters as Adam's groups: α, with the fit's learning rate."""
        return [{"params": [damping.alpha for damping in self.dampings]}]

    def gate(self, index: int) -> Gate:
        """λ of layer ``index``, never in reduced precision."""
        shared = len(self.dampings) == 1
        damping = self.dampings[0 if shared else index]
        with torch.autocast(damping.alpha.device.type, enabled=False):
            return damping.gate(index if shared else 0)

    def evaluate(self, draws: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Fit and compression terms ``(draws, N)`` in nats for some noise draws."""
        repeats = draws[0].shape[0]
        gates = [self.gate(index) for index in range(len(self.layouts))]
        layerwise = self.settings.compression == "layerwise"
        nats: list[Tensor] = []

        def pass_through(index: int, activation: Tensor) -> Tensor:
            signal = activation.float().unflatten(0, (repeats, self.n))
            if layerwise:
                prior = self.priors[index]
                information = gaussian_kl((signal - prior.mean) / prior.std, gates[index])
                nats.append(information * self.weights[index].counted)
            return self.damp(index, signal, gates[index], draws[index]).to(activation.dtype)

        output = self.session.run(repeats, pass_through)
        fit = self.objective(output).unflatten(0, (repeats, self.n))
        if not layerwise:
            return fit, self.compression(gates[0]).expand(repeats, -1)
        self._last_nats = [value.detach().mean(dim=0) for value in nats]
        terms = [
            beta * torch.stack([weights.mean(draw) for draw in value])
            for beta, weights, value in zip(self.betas, self.weights, nats, strict=True)
        ]
        return fit, torch.stack(terms).mean(dim=0)

    def compression(self, gate: Gate) -> Tensor:
        """β times the mean information at the first bottleneck, ``(N,)``, nats."""
        return self.betas[0] * self.weights[0].mean(self.nats(gate))

    def damp(self, index: int, signal: Tensor, gate: Gate, draw: Tensor) -> Tensor:
        """Z = λR + (1 − λ)ε for a signal ``(draws, N, …)`` and standard normal draws, as rows."""
        prior = self.priors[index]
        noise = prior.mean + prior.std * draw.unsqueeze(1)
        return torch.lerp(noise, signal, gate.keep).flatten(0, 1)

    def nats(self, gate: Gate | None = None) -> Tensor:
        """Information at the first bottleneck per element, ``(N, *layer_shape)``, nats."""
        nats = gaussian_kl(self._normalized, self.gate(0) if gate is None else gate)
        return nats * self.weights[0].counted

    def bits(self) -> list[Tensor]:
        """The information per element, layer-shaped, in bits, of every layer that is compressed.

        The first bottleneck's; with layerwise compression every layer's, averaged over the draws
        of the last evaluation.
        """
        with torch.no_grad():
            if self.settings.compression == "layerwise":
                return [to_bits(value) for value in self._last_nats]
            return [to_bits(self.nats())]

    def extras(self) -> dict[str, Tensor]:
        """Per-sample tensors ``(N, …)`` that a kind of bottleneck reports beside its bits: none."""
        return {}


class _Weights(NamedTuple):
    """Which elements count: 0 for padding and dead neurons; and how many the mean is over."""

    counted: Tensor
    elements: Tensor

    def mean(self, nats: Tensor) -> Tensor:
        """The mean information per element, ``(N,)``."""
        return nats.flatten(1).sum(dim=1) / self.elements


def _element_weights(
    activation: Tensor, layout: TokenLayout, prior: Prior, valid: Tensor | None
) -> _Weights:
    per_sample = activation[0].numel()
    counted = torch.ones((), device=activation.device)
    elements = torch.full((activation.shape[0],), float(per_sample), device=activation.device)
    if valid is not None:
        tokens = valid.to(activation.device, torch.float32)
        counted = tokens.unsqueeze(layout.channel_axis)
        elements = elements * tokens.mean(dim=1).clamp_min(1.0 / tokens.shape[1])
    if prior.active is not None:
        counted = counted * prior.active
    return _Weights(counted, elements)


def build_dampings(
    activations: Sequence[Tensor], layouts: Sequence[TokenLayout], settings: BottleneckSettings
) -> list[Damping]:
    """One damping ratio for all layers, or one for each.

    Layers of different resolution share one on the finest grid, averaged over areas for the
    coarser ones (DESIGN §3).

    Raises:
        ValueError: when the layers can't share one: different prefixes, no grid, or (per element)
            different channels.
    """
    if settings.damping == "individual" and len(layouts) > 1:
        return [
            build_dampings([activation], [layout], settings)[0]
            for activation, layout in zip(activations, layouts, strict=True)
        ]
    uniform = settings.channel == "uniform"
    shapes = [
        layout.uniform_shape(activation) if uniform else tuple(activation.shape)
        for activation, layout in zip(activations, layouts, strict=True)
    ]
    kinds = {(layout.kind, layout.prefix) for layout in layouts}
    device = activations[0].device
    if len(set(shapes)) == 1 and len(kinds) == 1:
        smoothing = _smoothing(layouts[0], activations[0], settings.smoothing)
        return [Damping(shapes[0], [Site()] * len(layouts), smoothing, device)]
    return [_multi_resolution(activations, layouts, settings)]


def _smoothing(
    layout: TokenLayout, activation: Tensor, sigma: float | str | None
) -> GridOperator | None:
    if sigma is None or isinstance(sigma, str):
        return None
    if not layout.spatial:
        raise ValueError(f"smoothing needs a layer with a grid, its layout is {layout.kind!r}")
    rows, columns = layout.grid_of(activation)
    matrices = gaussian_matrix(rows, sigma), gaussian_matrix(columns, sigma)
    if layout.kind == "tokens":
        return GridOperator(*matrices, prefix=layout.prefix, grid=(rows, columns))
    return GridOperator(*matrices, axes=(2, 3) if layout.kind == "nchw" else (1, 2))


def _multi_resolution(
    activations: Sequence[Tensor], layouts: Sequence[TokenLayout], settings: BottleneckSettings
) -> Damping:
    if not all(layout.spatial for layout in layouts):
        raise ValueError(
            "layers of different shapes can share a damping ratio only where each has a grid; "
            f"given layouts {[layout.kind for layout in layouts]}; use damping='individual'"
        )
    prefixes = {layout.prefix for layout in layouts}
    channels = {
        activation.shape[layout.channel_axis]
        for activation, layout in zip(activations, layouts, strict=True)
    }
    if len(prefixes) > 1 or (settings.channel == "elementwise" and len(channels) > 1):
        raise ValueError(
            f"can't share one damping ratio over layers with {sorted(prefixes)} prefix tokens and "
            f"{sorted(channels)} channels; use channel='uniform', other layers, or "
            "damping='individual'"
        )
    grids = [
        layout.grid_of(activation) for activation, layout in zip(activations, layouts, strict=True)
    ]
    prefix = prefixes.pop()
    rows, columns = max(h for h, _ in grids), max(w for _, w in grids)
    sites = []
    for layout, (h, w) in zip(layouts, grids, strict=True):
        pool = GridOperator(
            area_matrix(rows, h), area_matrix(columns, w), prefix=prefix, grid=(rows, columns)
        )
        coarser = (h, w) != (rows, columns)
        sites.append(Site(pool if coarser else None, partial(layout.arrange, grid=(h, w))))
    smoothing = _smoothing(
        TokenLayout("tokens", prefix, (rows, columns)), activations[0], settings.smoothing
    )
    width = 1 if settings.channel == "uniform" else channels.pop()
    shape = (activations[0].shape[0], prefix + rows * columns, width)
    return Damping(shape, sites, smoothing, activations[0].device)


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


INACTIVE_SHARE = 0.01
"""A neuron that is non-zero in at most this share of the cases is dead (Schulz et al., code)."""


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
