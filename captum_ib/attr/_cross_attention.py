"""Cross-attention between the towers of a pair: the fit's target, and guidance of compression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ib.attr._bottlenecks import Bottlenecks
from captum_ib.attr._contributions import Contributions
from captum_ib.bottleneck import Gate, gaussian_kl
from captum_ib.models.dual_encoder import DualEncoder, TowerView


@dataclass(frozen=True)
class GuideSettings:
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
        for name in ("target_strength", "guidance", "lr"):
            value = getattr(self, name)
            if not 0 <= value < float("inf"):
                label = "attention_lr" if name == "lr" else name
                raise ValueError(f"{label} must be finite and not negative, given {value}")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature must be positive and finite, given {self.temperature}")
        if not isinstance(self.residual, bool):
            raise TypeError(f"residual must be a bool, given {type(self.residual).__name__}")


class CrossView(TowerView):
    """A tower's view of a pair that also knows both sides' tokens, and whose target may change.

    Args:
        dual, modality, other_embedding: as in :class:`TowerView`; the embedding is e'.
        queries: contributions of this tower's tokens, ``(N, T, d)``.
        counts: which of them count, ``(N, T)``.
        keys: the other tower's tokens, ``(N, T', d)``.
        keys_count: which of those count, ``(N, T')``.
    """

    def __init__(
        self,
        dual: DualEncoder,
        modality: str,
        other_embedding: Tensor,
        queries: Tensor,
        counts: Tensor,
        keys: Tensor,
        keys_count: Tensor,
    ) -> None:
        super().__init__(dual, modality, other_embedding)
        self.pooled = self.other_embedding
        self.queries, self.counts = queries, counts
        self.keys, self.keys_count = keys, keys_count

    @staticmethod
    def of(view: TowerView, own: Contributions, keys: Tensor, keys_count: Tensor) -> CrossView:
        """The same tower's view, with the tokens of both sides."""
        return CrossView(
            view.dual,
            view.modality,
            view.other_embedding,
            own.values,
            own.counts,
            keys,
            keys_count,
        )

    def part(self, start: int, stop: int) -> CrossView:
        """The view for some of the samples."""
        tensors = (self.pooled, self.queries, self.counts, self.keys, self.keys_count)
        return CrossView(self.dual, self.modality, *(value[start:stop] for value in tensors))


class Attention:
    """Θ_A = {W_Q, W_K, W_V, W_O} of one direction, one of each per sample, and A.

    eq. 4: A = softmax(Q Kᵀ / temperature), Ẽ' = A V. Rows of the own contributions and of the other
    tower's tokens are divided by their mean length first, so the temperature means the same for
    every model. W_Q, W_K, W_V start as the identity, W_O at 0.
    """

    def __init__(self, view: CrossView, settings: GuideSettings, width: int) -> None:
        self.settings = settings
        self.queries = _unit_scale(view.queries, view.counts)
        self.keys = _unit_scale(view.keys, view.keys_count)
        self.counts, self.keys_count = view.counts, view.keys_count
        self.pooled = view.pooled.float()
        n, _, d = self.queries.shape
        like = {"device": self.queries.device, "dtype": torch.float32}
        identity = torch.eye(d, **like).expand(n, d, d)
        self.query, self.key, self.value = (
            identity.clone().requires_grad_(self.trained) for _ in range(3)
        )
        self.output = torch.zeros(n, d, width, **like, requires_grad=settings.residual)

    @property
    def trained(self) -> bool:
        """Whether the loss depends on Θ_A, and Θ_A may change."""
        settings = self.settings
        return settings.lr > 0 and (settings.target_strength > 0 or settings.residual)

    def parameters(self) -> list[Tensor]:
        """The matrices that the fit changes."""
        if not self.trained:
            return []
        matrices = [self.query, self.key, self.value]
        return [*matrices, self.output] if self.settings.residual else matrices

    def weights(self, keep: Tensor) -> Tensor:
        """A, ``(N, T, T')``, for the mean λ of each token ``(N, T)``; 0 at tokens without count.

        What a token contributes through the bottleneck shrinks with its λ, so a token that is
        closed looks nowhere in particular.
        """
        query = (keep.unsqueeze(-1) * self.queries) @ self.query
        logits = query @ (self.keys @ self.key).transpose(1, 2) / self.settings.temperature
        logits = logits.masked_fill(~self.keys_count.unsqueeze(1), float("-inf"))
        return logits.softmax(dim=-1) * self.counts.unsqueeze(-1)

    def attended(self, weights: Tensor) -> Tensor:
        """Ẽ' = A V, ``(N, T, d)``."""
        return weights @ (self.keys @ self.value)

    def target(self, attended: Tensor, keep: Tensor) -> Tensor:
        """ẽ' = normalise(e' + strength · normalise(Ẽ' pooled with weights ∝ λ)), ``(N, d)``."""
        share = keep * self.counts
        share = share / share.sum(dim=1, keepdim=True).clamp_min(1e-6)
        pooled = torch.einsum("nt,ntd->nd", share, attended)
        pooled = torch.nn.functional.normalize(pooled, dim=-1)
        return torch.nn.functional.normalize(
            self.pooled + self.settings.target_strength * pooled, dim=-1
        )

    def relevance(self, attended: Tensor) -> Tensor:
        """r_i: how far token i's contribution agrees with what it looks at, standardised.

        Over the tokens that count: mean 0 and standard deviation 1, within ±3; 0 elsewhere.
        """
        agreement = torch.einsum("ntd,ntd->nt", self.queries, attended)
        counts = self.counts.float()
        total = counts.sum(dim=1, keepdim=True).clamp_min(1.0)
        centred = (agreement - (agreement * counts).sum(dim=1, keepdim=True) / total) * counts
        spread = (centred.square().sum(dim=1, keepdim=True) / total).sqrt().clamp_min(1e-6)
        return (centred / spread).clamp(-3.0, 3.0)


def _unit_scale(tokens: Tensor, counts: Tensor) -> Tensor:
    """Tokens ``(N, T, d)`` in units of the mean length of those that count."""
    tokens = tokens.float() * counts.unsqueeze(-1)
    total = counts.sum(dim=1).clamp_min(1)
    length = tokens.norm(dim=-1).sum(dim=1) / total
    return tokens / length.clamp_min(1e-6)[:, None, None]


class GuidedBottlenecks(Bottlenecks):
    """A bottleneck whose target, compression and signal the cross-attention shapes.

    Args:
        view: the tower's view; its target is set before every pass.
        guide: settings of the cross-attention.
        arguments: those of :class:`Bottlenecks`.
    """

    def __init__(self, view: CrossView, guide: GuideSettings, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.view, self.guide = view, guide
        self.layout = self.layouts[0]
        activation = self.session.activations[0]
        self.attention = Attention(view, guide, activation.shape[self.layout.channel_axis])
        self._grid = self.layout.grid_of(activation) if self.layout.spatial else None
        self._shift: Tensor | None = None
        # r belongs to the start of the fit: through λ and Θ_A, compression could raise r at will.
        with torch.no_grad():
            relevance = self.attention.relevance(self._attend(self.gate(0))[1])
        self._factor = self._arranged(torch.exp(-guide.guidance * relevance).unsqueeze(-1))

    def groups(self) -> list[dict[str, Any]]:
        """α, and Θ_A with its own learning rate."""
        matrices = self.attention.parameters()
        groups = super().groups()
        return [*groups, {"params": matrices, "lr": self.guide.lr}] if matrices else groups

    def evaluate(self, draws: list[Tensor]) -> tuple[Tensor, Tensor]:
        """See :meth:`Bottlenecks.evaluate`; the target is that of the current λ and Θ_A."""
        gate = self.gate(0)
        attended = self._attend(gate)[1]
        if self.guide.target_strength > 0:
            self.view.other_embedding = self.attention.target(attended, self._keep(gate))
        self._move_signal(attended)
        return super().evaluate(draws)

    def compression(self, gate: Gate) -> Tensor:
        """Mean of β_i times the information of token i, ``(N,)``, nats."""
        return self.betas[0] * self.weights[0].mean(self._factor * self.nats(gate))

    def damp(self, index: int, signal: Tensor, gate: Gate, draw: Tensor) -> Tensor:
        """See :meth:`Bottlenecks.damp`; the signal is R + W_O·Ẽ' with ``residual``."""
        moved = signal if self._shift is None or index else signal + self._shift
        return super().damp(index, moved, gate, draw)

    def nats(self, gate: Gate | None = None) -> Tensor:
        """See :meth:`Bottlenecks.nats`; of the signal that :meth:`damp` takes."""
        if self._shift is None:
            return super().nats(gate)
        normalized = self._normalized + self._shift / self.priors[0].std
        nats = gaussian_kl(normalized, self.gate(0) if gate is None else gate)
        return nats * self.weights[0].counted

    def bits(self) -> list[Tensor]:
        """See :meth:`Bottlenecks.bits`."""
        with torch.no_grad():
            self._move_signal(self._attend(self.gate(0))[1])
        return super().bits()

    def extras(self) -> dict[str, Tensor]:
        """A after the fit, ``(N, T, T')``."""
        with torch.no_grad():
            return {"attention": self._attend(self.gate(0))[0]}

    def _attend(self, gate: Gate) -> tuple[Tensor, Tensor]:
        """A and Ẽ', never in reduced precision."""
        with torch.autocast(self.attention.queries.device.type, enabled=False):
            weights = self.attention.weights(self._keep(gate))
            return weights, self.attention.attended(weights)

    def _keep(self, gate: Gate) -> Tensor:
        """The mean λ of each token, ``(N, T)``."""
        return self.layout.tokens(gate.keep).mean(dim=-1)

    def _move_signal(self, attended: Tensor) -> None:
        if self.guide.residual:
            with torch.autocast(attended.device.type, enabled=False):
                self._shift = self._arranged(attended @ self.attention.output)

    def _arranged(self, tokens: Tensor) -> Tensor:
        return self.layout.arrange(tokens, self._grid)
