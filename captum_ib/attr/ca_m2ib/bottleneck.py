"""CA-M2IB's equations: M2IB's bottleneck with signal, target and compression guided (eq. 4–7)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ib.attr.base import Layers
from captum_ib.attr.ca_m2ib.attention import Attention, Guide
from captum_ib.attr.ca_m2ib.facing import FacingCall
from captum_ib.attr.m2ib import M2IBBottleneck
from captum_ib.attr.pairs import TowerLayers
from captum_ib.bottleneck import DampingRatio, Terms
from captum_ib.forward import cosine


class UnguidedBottleneck(M2IBBottleneck):
    """What is left without cross-attention: M2IB, its fit term weighed by γ.

    Args:
        layers: the one layer.
        beta, gamma: β and γ.
    """

    def __init__(self, layers: TowerLayers, beta: float, gamma: float) -> None:
        super().__init__(layers, beta)
        self.gamma = gamma

    def loss(self, draws: list[Tensor]) -> Terms:
        """L = −γ·cos(g(Z), e') + β · KL."""
        terms = super().loss(draws)
        return Terms(self.gamma * terms.fit, terms.compression)


class CAM2IBBottleneck(M2IBBottleneck):
    """The paper's equations, for one tower and some pairs.

    R is the layer's activation, g the rest of the tower, e' the other input's embedding.

    Args:
        layers: the one layer, in a call that knows the tokens of both sides.
        beta, gamma: β and γ.
        guide: the cross-attention.
    """

    def __init__(self, layers: Layers[Any], beta: float, gamma: float, guide: Guide) -> None:
        super().__init__(layers, beta)
        call: FacingCall = layers.call
        self.gamma, self.modality = gamma, call.modality
        self.attention = Attention(call, guide, layers.layouts[0], layers.R[0])
        self.weights = self.attention.weights(self.damping(0))  # of the start: exp(−t·r_i)

    def parameters(self) -> list[dict[str, Any]]:
        """α, and Θ_A with its own learning rate."""
        attention = {"params": self.attention.parameters, "lr": self.attention.guide.lr}
        return [*super().parameters(), *([attention] if self.attention.parameters else [])]

    def loss(self, draws: list[Tensor]) -> Terms:
        """L = −γ·cos(g(Z), ẽ') + Σ_i β_i · KL_i (eq. 7; β_i = β·exp(−t·r_i) is ours)."""
        lam, channel = self.damping(0), self.layers.channels[0]
        _, E = self.attention.attend(lam)  # eq. 4
        shift = self.attention.shift(E)  # eq. 5: the signal is R + W_O·Ẽ'
        # Z = λ(R + W_O·Ẽ') + (1 − λ)ε
        g_Z = self.layers.run(lambda _, R: channel.pass_on(R + shift, lam, draws[0]), len(draws[0]))
        similarity = cosine(g_Z, self.attention.target(E, lam))
        compression = self.beta * channel.mean(self.weights * self._KL(lam, shift))
        return Terms(-self.gamma * self.layers.by_draw(similarity), compression)

    def information(self) -> list[Tensor]:
        """KL per element at the present λ and Θ_A."""
        lam = self.damping(0)
        return [self._KL(lam, self.attention.shift(self.attention.attend(lam)[1]))]

    def attended(self) -> tuple[str, Tensor]:
        """The modality and A after the fit, ``(N, T, T')``."""
        with torch.no_grad():
            return self.modality, self.attention.attend(self.damping(0))[0]

    def _KL(self, lam: DampingRatio, shift: Tensor | float) -> Tensor:
        channel = self.layers.channels[0]
        return channel.information(lam, channel.R_hat + shift / channel.prior.std)
