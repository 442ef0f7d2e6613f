"""CA-M2IB as its paper prints it: eq. 4, 5 and 7 without what we added (``variant="paper"``)."""

# torch does not type normalize.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from captum_ib.attr.base import Layers
from captum_ib.attr.m2ib import M2IBBottleneck
from captum_ib.bottleneck import Terms
from captum_ib.forward import TowerCall, cosine
from captum_ib.hooks import borrowed

if TYPE_CHECKING:
    from typing_extensions import Self

TUNED: dict[str, object] = {
    "temperature": 0.1,
    "target_strength": 1.0,
    "guidance": 3.0,
    "residual": False,
    "queries": "early",
    "keys": "contributions",
}
"""Settings of our variant that the paper's has not, with their defaults."""


@dataclass(kw_only=True)
class PaperCall(TowerCall):
    """One side of a pair that also knows the other tower's tokens in the joint space.

    Attributes:
        E_other: E', the other tower's last tokens through its head, ``(N, T', d)``.
        counts: ``(N, T')`` bool: no padding.
    """

    E_other: Tensor
    counts: Tensor

    def part(self, start: int, stop: int) -> Self:
        """The call for some of the samples."""
        rows = slice(start, stop)
        return replace(
            super().part(start, stop), E_other=self.E_other[rows], counts=self.counts[rows]
        )


class PaperBottleneck(M2IBBottleneck):
    """The equations as printed, for one tower and some pairs.

    Args:
        layers: the one layer, in a :class:`PaperCall`.
        beta, gamma: β and γ.
        lr: learning rate of Θ_A.
        seed: of Θ_A's start, the same for every pair (Xavier, as PyTorch starts attention; the
            paper says nothing of it).
    """

    information_by_draw = True  # through Q(Z)

    def __init__(
        self, layers: Layers[Any], beta: float, gamma: float, lr: float, seed: int
    ) -> None:
        super().__init__(layers, beta)
        call: PaperCall = layers.call
        self.gamma, self.lr = gamma, lr
        self.E_other = call.E_other.float().clone()  # it may come from the caller's inference mode
        self.keys_count = call.counts
        self.layout = layers.layouts[0]
        self.grid = self.layout.grid_of(layers.R[0]) if self.layout.spatial else None
        n, d, c = call.n, self.E_other.shape[-1], layers.R[0].shape[self.layout.channel_axis]
        draw = torch.Generator().manual_seed(seed)
        shapes = ((c, d), (d, d), (d, d), (d, c))
        self.theta = [_xavier(n, shape, draw).to(layers.R[0].device) for shape in shapes]
        self.W_Q, self.W_K, self.W_V, self.W_O = self.theta
        for matrix in self.theta:
            matrix.requires_grad_(lr > 0)

    def parameters(self) -> list[dict[str, Any]]:
        """α, and Θ_A with its own learning rate."""
        attention = {"params": self.theta, "lr": self.lr}
        return [*super().parameters(), *([attention] if self.lr > 0 else [])]

    def loss(self, draws: list[Tensor]) -> Terms:
        """L = −γ·cos(g(Z̃), ẽ') + β · KL (eq. 7)."""
        lam, channel = self.damping(0), self.layers.channels[0]
        attended: list[Tensor] = []

        def bottleneck(_: int, R: Tensor) -> Tensor:
            Z = channel.pass_on(R, lam, draws[0])
            attended.append(self.attend(Z))
            # eq. 5: Z̃ = λ·f(Ẽ) + (1 − λ)ε
            return channel.pass_on(self.f(attended[0]), lam, draws[0])

        g_Z = self.layers.run(bottleneck, len(draws[0]))
        nats = channel.information(lam, channel.normalized(self.f(attended[0])))
        compression = torch.stack([channel.mean(draw) for draw in nats])
        similarity = cosine(g_Z, self.target(attended[0]).flatten(0, 1))
        fit = -self.gamma * self.layers.by_draw(similarity)
        return Terms(fit, self.beta * compression, [nats])

    def attend(self, Z: Tensor) -> Tensor:
        """Ẽ = softmax(Q(Z) K(E')ᵀ / √d_k) V(E') (eq. 4), ``(draws, N, T, d)``."""
        with torch.autocast(Z.device.type, enabled=False):
            tokens = self.layout.tokens(Z.flatten(0, 1)).unflatten(0, Z.shape[:2]).float()
            Q, K, V = tokens @ self.W_Q, self.E_other @ self.W_K, self.E_other @ self.W_V
            logits = Q @ K.transpose(1, 2) / math.sqrt(K.shape[-1])
            return logits.masked_fill(~self.keys_count[:, None], float("-inf")).softmax(-1) @ V

    def f(self, attended: Tensor) -> Tensor:
        """f(Ẽ) = W_O·Ẽ: back to the layer's width, in its axes."""
        with torch.autocast(attended.device.type, enabled=False):
            signal = (attended @ self.W_O).flatten(0, 1)
            return self.layout.arrange(signal, self.grid).unflatten(0, attended.shape[:2])

    def target(self, attended: Tensor) -> Tensor:
        """ẽ' = normalise(mean of Ẽ over the own tokens without padding), ``(draws, N, d)``."""
        valid = self.layers.valid
        if valid is None:
            return normalize(attended.mean(dim=2), dim=-1)
        weight = valid.to(attended)[None, :, :, None]
        return normalize((attended * weight).sum(dim=2), dim=-1)


def paper_calls(calls: Sequence[TowerCall]) -> list[PaperCall]:
    """The two sides' calls, each with the other tower's tokens in the joint space."""
    tokens = [_joint_tokens(call) for call in calls]
    return [
        PaperCall(
            call.forward_func,
            call.inputs,
            call.additional,
            other=call.other,
            E_other=E_other,
            counts=counts,
        )
        for call, (E_other, counts) in zip(calls, reversed(tokens), strict=True)
    ]


def require_untuned(given: Mapping[str, object]) -> None:
    """Refuse a setting that only our variant has.

    Raises:
        ValueError: one of them is not at its default.
    """
    for name, value in given.items():
        if value != TUNED[name]:
            raise ValueError(
                f'variant="paper" has no {name}, given {value!r}: leave it out, or use '
                'variant="tuned"'
            )


def _joint_tokens(call: TowerCall) -> tuple[Tensor, Tensor]:
    tower = call.embedding.tower
    with borrowed([call.embedding.dual]), torch.no_grad():
        values: Tensor = tower.tokens(*call.inputs, *call.additional)
        counts = tower.token_mask(*call.inputs, *call.additional)
    shape = values.shape[:2]
    if counts is None or counts.shape != shape:
        counts = torch.ones(shape, dtype=torch.bool, device=values.device)
    return values.clone(), counts.to(values.device).bool()


def _xavier(n: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
    bound = math.sqrt(6 / sum(shape))
    start = torch.rand(shape, generator=generator, dtype=torch.float32) * 2 * bound - bound
    return start.expand(n, *shape).clone()
