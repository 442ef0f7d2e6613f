"""Cross-attention between the two sides of a pair: A, Ẽ', the fit's target, guidance (eq. 4)."""

# torch does not type norm.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from captum_ib.attr.ca_m2ib.facing import FacingCall
from captum_ib.bottleneck import DampingRatio
from captum_ib.checks import require_weight
from captum_ib.layout import TokenLayout


@dataclass(frozen=True)
class Guide:
    """How one direction of the cross-attention works.

    Attributes:
        temperature: of the softmax; small: each token looks at few tokens of the other modality.
        guidance: t of β_i = β·exp(−t·r_i); 0: the same β for all tokens.
        target_strength: weight of the pooled attended value beside e' in the target ẽ'.
        lr: learning rate of Θ_A; 0 leaves it at its start.
        residual: whether the layer's signal becomes R + W_O·Ẽ' (CA-M2IB, eq. 5).
    """

    temperature: float = 1.0
    guidance: float = 0.0
    target_strength: float = 0.0
    lr: float = 0.0
    residual: bool = False

    def __post_init__(self) -> None:
        require_weight("temperature", self.temperature, positive=True)
        require_weight("guidance", self.guidance)
        require_weight("target_strength", self.target_strength)
        require_weight("attention_lr", self.lr)
        if not isinstance(cast(object, self.residual), bool):
            raise TypeError(f"residual must be a bool, given {type(self.residual).__name__}")


class Attention:
    """Θ_A = {W_Q, W_K, W_V, W_O} of one direction, one of each per sample, and A.

    Rows of the own contributions C and of the other tower's tokens C' are divided by their mean
    length first, so the temperature means the same for every model. W_Q, W_K, W_V start as the
    identity, W_O at 0.

    Args:
        call: the tokens of both sides.
        guide: how it works.
        layout: of the layer that λ belongs to.
        R: that layer's activation.
    """

    def __init__(self, call: FacingCall, guide: Guide, layout: TokenLayout, R: Tensor) -> None:
        self.guide, self.layout = guide, layout
        self.grid = layout.grid_of(R) if layout.spatial else None
        self.counts, self.keys_count = call.own.counts, call.facing.counts
        self.C = _unit(call.own.values, self.counts)
        self.C_other = _unit(call.facing.values, self.keys_count)
        self.e_other = call.other.float()
        n, _, d = self.C.shape
        identity = torch.eye(d, dtype=torch.float32, device=self.C.device).expand(n, d, d)
        trained = guide.lr > 0 and (guide.target_strength > 0 or guide.residual)
        self.W_Q, self.W_K, self.W_V = (identity.clone() for _ in range(3))
        self.W_O = identity.new_zeros(n, d, R.shape[layout.channel_axis])
        self.parameters: list[Tensor] = [self.W_Q, self.W_K, self.W_V] if trained else []
        if trained and guide.residual:
            self.parameters.append(self.W_O)
        for matrix in self.parameters:
            matrix.requires_grad_()

    def attend(self, lam: DampingRatio) -> tuple[Tensor, Tensor]:
        """A ``(N, T, T')`` and Ẽ' ``(N, T, d)`` (eq. 4), never in reduced precision.

        What a token contributes through the bottleneck shrinks with its λ, so a token that is
        closed looks nowhere in particular. A is 0 at tokens without count.
        """
        with torch.autocast(self.C.device.type, enabled=False):
            Q = (self.share(lam).unsqueeze(-1) * self.C) @ self.W_Q
            K, V = self.C_other @ self.W_K, self.C_other @ self.W_V
            logits = Q @ K.transpose(1, 2) / self.guide.temperature
            logits = logits.masked_fill(~self.keys_count.unsqueeze(1), float("-inf"))
            A = logits.softmax(dim=-1) * self.counts.unsqueeze(-1)
            return A, A @ V

    def share(self, lam: DampingRatio) -> Tensor:
        """The mean λ of each token, ``(N, T)``."""
        return self.layout.tokens(lam.lam).mean(dim=-1)

    def target(self, attended: Tensor, lam: DampingRatio) -> Tensor:
        """ẽ' = normalise(e' + strength · normalise(Ẽ' pooled with weights ∝ λ)), ``(N, d)``."""
        if self.guide.target_strength == 0:
            return self.e_other
        share = self.share(lam) * self.counts
        share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-6)
        pooled = normalize(torch.einsum("nt,ntd->nd", share, attended), dim=-1)
        return normalize(self.e_other + self.guide.target_strength * pooled, dim=-1)

    def shift(self, attended: Tensor) -> Tensor | float:
        """W_O·Ẽ' of every token (eq. 5), in the axes of the layer; 0 without the residual."""
        if not self.guide.residual:
            return 0.0
        with torch.autocast(attended.device.type, enabled=False):
            return self.layout.arrange(attended @ self.W_O, self.grid)

    @torch.no_grad()
    def weights(self, lam: DampingRatio) -> Tensor:
        """exp(−t·r_i) in the axes of the layer, for the relevance r at a given λ.

        r_i says how far token i's contribution agrees with what it looks at, C_i·Ẽ'_i,
        standardised over the tokens that count: mean 0 and standard deviation 1, within ±3.
        r belongs to the start of a fit: through λ and Θ_A, compression could raise it at will.
        """
        agreement = torch.einsum("ntd,ntd->nt", self.C, self.attend(lam)[1])
        counts = self.counts.float()
        total = counts.sum(dim=1, keepdim=True).clamp_min(1.0)
        centred = (agreement - (agreement * counts).sum(dim=1, keepdim=True) / total) * counts
        spread = (centred.square().sum(dim=1, keepdim=True) / total).sqrt().clamp_min(1e-6)
        r = (centred / spread).clamp(-3.0, 3.0)
        return self.layout.arrange(torch.exp(-self.guide.guidance * r).unsqueeze(-1), self.grid)


def _unit(tokens: Tensor, counts: Tensor) -> Tensor:
    """Tokens ``(N, T, d)`` in units of the mean length of those that count."""
    tokens = tokens.float() * counts.unsqueeze(-1)
    length = tokens.norm(dim=-1).sum(dim=1) / counts.sum(dim=1).clamp_min(1)
    return tokens / length.clamp_min(1e-6)[:, None, None]
