"""A noisy channel in place of a layer: Z = λR + (1 − λ)ε, and the information that passes it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from captum_ib.bottleneck.damping import DampingRatio
from captum_ib.bottleneck.noise import Prior
from captum_ib.layout import TokenLayout

NATS_PER_BIT = math.log(2.0)


def gaussian_kl(normalized: Tensor, ratio: DampingRatio) -> Tensor:
    """KL[N(λR + (1−λ)μ, ((1−λ)σ)²) ‖ N(μ, σ²)] per element, in **nats**.

    Schulz et al. (ICLR 2020), appendix; with R̂ = (R − μ)/σ it is
    ½((λR̂)² + (1−λ)² − 1) − log(1−λ).

    Args:
        normalized: R̂, any shape that broadcasts with λ.
        ratio: λ.

    Returns:
        Tensor of the broadcast shape, ≥ 0 up to rounding (about 1e-7).

    >>> from captum_ib.bottleneck import damping_ratio
    >>> gaussian_kl(torch.tensor(2.0), damping_ratio(torch.tensor(0.0))).item()  # λ = ½
    0.8181...
    """
    signal = (ratio.lam * normalized).square()
    return 0.5 * (signal + ratio.rest.square() - 1.0) - ratio.log_rest


def to_bits(nats: Tensor) -> Tensor:
    """Nats → bits, with the rounding error below zero cut off, so that the result is ≥ 0.

    >>> to_bits(torch.tensor([NATS_PER_BIT, -1e-8])).tolist()
    [1.0, 0.0]
    """
    return (nats / NATS_PER_BIT).clamp_min(0.0)


class Channel:
    """One layer as a noisy channel.

    Args:
        prior: its noise and prior N(μ, σ²).
        R: the layer's activation ``(N, …)``.
        layout: its axes.
        valid: ``(N, T)`` marks the tokens that count; ``None``: all.

    Attributes:
        prior: as given.
        R_hat: R̂ = (R − μ)/σ.
    """

    def __init__(
        self, prior: Prior, R: Tensor, layout: TokenLayout, valid: Tensor | None = None
    ) -> None:
        self.prior = prior
        self.R_hat = self.normalized(R.float())
        self._counted = torch.ones((), dtype=torch.float32, device=R.device)
        self._elements = self._counted.new_full((len(R),), float(R[0].numel()))
        self._places: Tensor | None = None
        if valid is not None:
            tokens = valid.to(R.device, torch.float32)
            self._counted = tokens.unsqueeze(layout.channel_axis)
            self._elements *= tokens.mean(dim=1).clamp_min(1.0 / tokens.shape[1])
            self._places = _places(tokens)
        if prior.active is not None:
            self._counted = self._counted * prior.active

    def normalized(self, R: Tensor) -> Tensor:
        """R̂ = (R − μ)/σ."""
        return (R - self.prior.mean) / self.prior.std

    def pass_on(self, R: Tensor, ratio: DampingRatio, draw: Tensor) -> Tensor:
        """Z = λR + (1 − λ)ε, ε = μ + σ · draw.

        Args:
            R: ``(draws, N, …)``, float32.
            ratio: λ.
            draw: standard normal, ``(draws, …)``: the same for every sample, in a sequence from
                its first token that counts.
        """
        own = draw.unsqueeze(1) if self._places is None else draw[:, self._places]
        noise = self.prior.mean + self.prior.std * own
        return torch.lerp(noise, R, ratio.lam)

    def information(self, ratio: DampingRatio, R_hat: Tensor | None = None) -> Tensor:
        """KL[P(Z|R) ‖ N(μ, σ²)] per element, nats; 0 where an element does not count.

        Args:
            ratio: λ.
            R_hat: normalised activation; default: that of the plain pass.
        """
        return gaussian_kl(self.R_hat if R_hat is None else R_hat, ratio) * self._counted

    def mean(self, nats: Tensor) -> Tensor:
        """The mean per element that counts, ``(N,)``, of values ``(N, …)``."""
        return nats.flatten(1).sum(dim=1) / self._elements


def _places(tokens: Tensor) -> Tensor | None:
    """Which position's draw each token takes, ``(N, T)``, where padding comes first.

    The noise of a token must not depend on how much padding stands before it.
    """
    first = tokens.argmax(dim=1, keepdim=True)
    if not bool(first.any()):
        return None
    return (torch.arange(tokens.shape[1], device=tokens.device) - first) % tokens.shape[1]
