"""Bottlenecks in the layers of a running model: noise in, information out, one loss for the fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_ib.attr._priors import Prior
from captum_ib.attr._settings import BottleneckSettings
from captum_ib.attr._sharing import build_dampings
from captum_ib.bottleneck import Gate, gaussian_kl, to_bits
from captum_ib.hooks import Session
from captum_ib.layout import TokenLayout


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
