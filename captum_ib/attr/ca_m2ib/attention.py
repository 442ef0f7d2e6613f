"""Cross-attention between the two sides of a pair: A, Ẽ', the fit's target, guidance."""

# torch does not type norm.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from captum_ib.attr.ca_m2ib.contributions import Contributions, contributions
from captum_ib.bottleneck import DampingRatio
from captum_ib.checks import require_choice, require_weight
from captum_ib.forward import TowerCall
from captum_ib.hooks import borrowed
from captum_ib.layout import TokenLayout
from captum_ib.models.dual_encoder import DualEncoder, TowerEmbedding
from captum_ib.models.layers import NamedLayer

if TYPE_CHECKING:
    from typing_extensions import Self

QUERIES = ("early", "layer")
KEYS = ("contributions", "tokens")


@dataclass(frozen=True)
class Guide:
    """How one direction of the cross-attention works.

    Attributes:
        temperature: of the softmax; small: each token looks at few tokens of the other modality.
        guidance: t of β_i = β·exp(−t·r_i); 0: the same β for all tokens.
        target_strength: weight of the pooled attended value beside e' in the target ẽ'.
        lr: learning rate of Θ_A; 0 leaves it at its start.
        residual: whether the layer's signal becomes R + W_O·Ẽ' (Bourigault et al., eq. 5).
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


@dataclass
class FacingCall(TowerCall):
    """One side of a pair that also knows the tokens of both sides.

    Attributes:
        queries: C, contributions of the own tokens, ``(N, T, d)``.
        counts: which of them count, ``(N, T)``.
        keys: C', tokens of the other side, ``(N, T', d)``.
        keys_count: which of those count, ``(N, T')``.
    """

    queries: Tensor = field(default_factory=lambda: torch.empty(0))
    counts: Tensor = field(default_factory=lambda: torch.empty(0))
    keys: Tensor = field(default_factory=lambda: torch.empty(0))
    keys_count: Tensor = field(default_factory=lambda: torch.empty(0))

    def part(self, start: int, stop: int) -> Self:
        """The call for some of the samples."""
        names = ("queries", "counts", "keys", "keys_count")
        tokens = {name: getattr(self, name)[start:stop] for name in names}
        return replace(super().part(start, stop), **tokens)


def facing(
    dual: DualEncoder,
    calls: Sequence[TowerCall],
    layers: Sequence[NamedLayer],
    layouts: Sequence[TokenLayout | None],
    *,
    queries: str = "early",
    keys: str = "contributions",
    internal_batch_size: int | None = None,
    replay: bool = True,
) -> tuple[list[FacingCall], list[Contributions]]:
    """The two sides' calls with the tokens of both, and the sides' contributions.

    Args:
        dual: the dual encoder.
        calls: of its two towers.
        layers: one per tower: the (first) bottleneck's.
        layouts: of these layers, where they can't be inferred.
        queries: ``"early"`` or ``"layer"``, see :func:`contributions`.
        keys: ``"contributions"`` of the other tower's tokens, or its last layer's ``"tokens"`` in
            the joint space.
        internal_batch_size, replay: as for :func:`contributions`.

    Raises:
        ValueError: another value of ``queries`` or ``keys``; a tower whose last layer has other
            tokens than the bottleneck's.
    """
    require_choice("queries", queries, QUERIES)
    require_choice("keys", keys, KEYS)
    tokens = [
        contributions(
            call,
            layer,
            layout,
            earliest=queries == "early",
            internal_batch_size=internal_batch_size,
            replay=replay,
        )
        for call, layer, layout in zip(calls, layers, layouts, strict=True)
    ]
    sides: list[FacingCall] = []
    for index, call in enumerate(calls):
        own, other = tokens[index], tokens[1 - index]
        values = other.values
        if keys == "tokens":
            values = _joint_tokens(dual, calls[1 - index], other.counts)
        given = {entry.name: getattr(call, entry.name) for entry in fields(TowerCall)}
        sides.append(
            FacingCall(
                **given,
                queries=own.values,
                counts=own.counts,
                keys=values,
                keys_count=other.counts,
            )
        )
    return sides, tokens


def _joint_tokens(dual: DualEncoder, call: TowerCall, counts: Tensor) -> Tensor:
    """The last layer's tokens of a tower in the joint space, ``(N, T, d)``."""
    name = cast(TowerEmbedding, call.forward_func).modality
    with borrowed([dual]), torch.no_grad():
        values = dual.tokens(name, *call.inputs, *call.additional).float()
    if values.shape[1] != counts.shape[1]:
        raise ValueError(
            f"the {name} tower's last layer has {values.shape[1]} tokens, the bottleneck's layer "
            f'{counts.shape[1]}; use keys="contributions", or a later layer'
        )
    return values


class Attention:
    """Θ_A = {W_Q, W_K, W_V, W_O} of one direction, one of each per sample, and A.

    Rows of the own contributions C and of the other tower's tokens C' are divided by their mean
    length first, so the temperature means the same for every model. W_Q, W_K, W_V start as the
    identity, W_O at 0.

    Args:
        call: the tokens of both sides.
        guide: how it works.
        layout: of the layer that λ belongs to.
        width: channels of that layer.
    """

    def __init__(self, call: FacingCall, guide: Guide, layout: TokenLayout, width: int) -> None:
        self.guide, self.layout = guide, layout
        self.C, self.C_other = _unit(call.queries, call.counts), _unit(call.keys, call.keys_count)
        self.counts, self.keys_count = call.counts, call.keys_count
        self.e_other = call.other.float()
        n, _, d = self.C.shape
        identity = torch.eye(d, dtype=torch.float32, device=self.C.device).expand(n, d, d)
        trained = guide.lr > 0 and (guide.target_strength > 0 or guide.residual)
        self.W_Q, self.W_K, self.W_V = (identity.clone() for _ in range(3))
        self.W_O = identity.new_zeros(n, d, width)
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
        share = self.share(lam) * self.counts
        share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-6)
        pooled = normalize(torch.einsum("nt,ntd->nd", share, attended), dim=-1)
        return normalize(self.e_other + self.guide.target_strength * pooled, dim=-1)

    def shift(self, attended: Tensor) -> Tensor:
        """W_O·Ẽ' of every token (eq. 5), ``(N, T, C)``."""
        with torch.autocast(attended.device.type, enabled=False):
            return attended @ self.W_O

    def weights(self, lam: DampingRatio) -> Tensor:
        """exp(−t·r_i), ``(N, T)``, for the relevance r at a given λ.

        r_i says how far token i's contribution agrees with what it looks at, C_i·Ẽ'_i,
        standardised over the tokens that count: mean 0 and standard deviation 1, within ±3.
        """
        agreement = torch.einsum("ntd,ntd->nt", self.C, self.attend(lam)[1])
        counts = self.counts.float()
        total = counts.sum(dim=1, keepdim=True).clamp_min(1.0)
        centred = (agreement - (agreement * counts).sum(dim=1, keepdim=True) / total) * counts
        spread = (centred.square().sum(dim=1, keepdim=True) / total).sqrt().clamp_min(1e-6)
        return torch.exp(-self.guide.guidance * (centred / spread).clamp(-3.0, 3.0))


def _unit(tokens: Tensor, counts: Tensor) -> Tensor:
    """Tokens ``(N, T, d)`` in units of the mean length of those that count."""
    tokens = tokens.float() * counts.unsqueeze(-1)
    length = tokens.norm(dim=-1).sum(dim=1) / counts.sum(dim=1).clamp_min(1)
    return tokens / length.clamp_min(1e-6)[:, None, None]


def guiding_weights(attention: Attention, lam: DampingRatio, R: Tensor) -> Tensor:
    """exp(−t·r_i) in the axes of the layer, of the start of a fit.

    r belongs to the start: through λ and Θ_A, compression could raise it at will.
    """
    layout = attention.layout
    with torch.no_grad():
        weights = attention.weights(lam).unsqueeze(-1)
    return layout.arrange(weights, layout.grid_of(R) if layout.spatial else None)
