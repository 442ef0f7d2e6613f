"""CA-M2IB: M2IB guided by cross-attention between the two towers (Bourigault et al.)."""

# torch does not type unflatten.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor

from captum_ib.attr.base import FIT_OPTIONS, FIT_PASSES, Bottlenecks, Explained, seed_of
from captum_ib.attr.ca_m2ib.attention import Attention, Guide, facing, guiding_weights
from captum_ib.attr.ca_m2ib.contributions import Contributions
from captum_ib.attr.pairs import PairAttribution, TowerLayers, pair_plans, pair_result
from captum_ib.bottleneck import (
    MIN_STD,
    ActivationStatistics,
    Damping,
    DampingRatio,
    FitSettings,
    FitTrace,
    Terms,
)
from captum_ib.checks import require_weight
from captum_ib.facts import BITS, Facts
from captum_ib.forward import (
    TowerCall,
    cosine,
    log_usage,
    pair_calls,
    per_call,
    require_dual,
    tower_layers,
)
from captum_ib.layout import TokenLayout
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import LayerLike

if TYPE_CHECKING:
    from captum_ib.attr.options import CAM2IBOptions, Unpack

PerTower = float | tuple[float, float]
Maps = tuple[Tensor, Tensor]
Traces = tuple[FitTrace, FitTrace]


class CAM2IBBottleneck(Bottlenecks):
    """The paper's equations, for one tower and some pairs.

    R is the layer's activation, g the rest of the tower, e' the other input's embedding.

    Args:
        layers: the one layer; with a guide its call knows the tokens of both sides.
        beta, gamma: β and γ.
        guide: the cross-attention; ``None``: none, which leaves M2IB.
    """

    def __init__(self, layers: TowerLayers, beta: float, gamma: float, guide: Guide | None) -> None:
        self.layers, self.beta, self.gamma = layers, beta, gamma
        self.damping = Damping.shared(layers.R, layers.layouts, uniform=False)  # λ per element
        self.attention: Attention | None = None
        if guide is not None:
            call: Any = layers.call
            R, layout = layers.R[0], layers.layouts[0]
            self.attention = Attention(call, guide, layout, R.shape[layout.channel_axis])
            self.weights = guiding_weights(self.attention, self.damping(0), R)

    def parameters(self) -> list[dict[str, Any]]:
        """α, and Θ_A with its own learning rate."""
        groups = super().parameters()
        if self.attention is None or not self.attention.parameters:
            return groups
        lr = self.attention.guide.lr
        return [*groups, {"params": self.attention.parameters, "lr": lr}]

    def loss(self, draws: list[Tensor]) -> Terms:
        """L = −γ·cos(g(Z), ẽ') + Σ_i β_i · KL_i (eq. 7; β_i = β·exp(−t·r_i) is ours)."""
        lam, channel = self.damping(0), self.layers.channels[0]
        shift, target = self._attend(lam)
        # Z = λR + (1 − λ)ε, of R + W_O·Ẽ' with eq. 5
        g_Z = self.layers.run(
            lambda _, R: channel.pass_on(_moved(R, shift), lam, draws[0]), len(draws[0])
        )
        similarity = self.layers.by_draw(cosine(g_Z, target))
        nats = self._information(lam, shift)
        if self.attention is not None:
            nats = self.weights * nats
        return Terms(-self.gamma * similarity, self.beta * channel.mean(nats))

    def information(self) -> list[Tensor]:
        """KL per element at the present λ and Θ_A."""
        lam = self.damping(0)
        return [self._information(lam, self._attend(lam)[0])]

    def attended(self) -> tuple[str, Tensor]:
        """The modality and A after the fit, ``(N, T, T')``."""
        if self.attention is None:
            raise RuntimeError("a fit without cross-attention has no attention")
        with torch.no_grad():
            return self.layers.call.forward_func.modality, self.attention.attend(self.damping(0))[0]

    def _attend(self, lam: DampingRatio) -> tuple[Tensor | None, Tensor]:
        """What is added to R (eq. 5), and the target ẽ' (e' without a strength)."""
        e_other = self.layers.call.other
        if self.attention is None:
            return None, e_other
        guide = self.attention.guide
        attended = self.attention.attend(lam)[1]  # eq. 4
        shift = None
        if guide.residual:
            R, layout = self.layers.R[0], self.layers.layouts[0]
            grid = layout.grid_of(R) if layout.spatial else None
            shift = layout.arrange(self.attention.shift(attended), grid)
        if guide.target_strength > 0:
            e_other = self.attention.target(attended, lam)
        return shift, e_other

    def _information(self, lam: DampingRatio, shift: Tensor | None) -> Tensor:
        channel = self.layers.channels[0]
        if shift is None:
            return channel.information(lam)
        return channel.information(lam, channel.R_hat + shift / channel.prior.std)


def _moved(R: Tensor, shift: Tensor | None) -> Tensor:
    """R + W_O·Ẽ' (eq. 5)."""
    return R if shift is None else R + shift


@dataclass(frozen=True)
class CrossAttention:
    """Which token of one modality looks at which token of the other: A of eq. 4.

    Attributes:
        weights: ``(N, T, T')``; a row is the distribution of one token's attention over the other
            modality's tokens. Rows and columns of tokens that don't count (class token, padding)
            are 0.
        query, key: the modalities of rows and columns.
        query_layout, key_layout: where the tokens of rows and columns lie.
        n_parameters: numbers in Θ_A, per pair: 3d² + d·C for joint width d and layer width C.
    """

    weights: Tensor
    query: str
    key: str
    query_layout: TokenLayout
    key_layout: TokenLayout
    n_parameters: int

    def over_keys(self) -> Tensor:
        """Where each token looks: ``(N, T, h, w)`` if the other modality has a grid, else
        ``(N, T, T')``."""
        return _by_row(self.weights, self.key_layout)

    def over_queries(self) -> Tensor:
        """Who looks at each of the other modality's tokens: ``(N, T', h, w)`` or ``(N, T', T)``."""
        return _by_row(self.weights.transpose(1, 2), self.query_layout)


def _by_row(weights: Tensor, layout: TokenLayout) -> Tensor:
    n, rows = weights.shape[:2]
    tokens = layout.arrange(weights.flatten(0, 1).unsqueeze(-1), layout.grid)
    maps = layout.attribution(tokens)
    return (maps.squeeze(1) if layout.spatial else maps).unflatten(0, (n, rows))


Attentions = tuple[CrossAttention, CrossAttention]


class CAM2IB(PairAttribution):
    """Multi-Modal Information Bottleneck attribution with cross-attention guidance.

    As :class:`M2IB`, each tower's layer gets Z = λR + (1 − λ)ε, with three differences
    (Bourigault et al.; what the paper leaves open is defined in ``docs/methods/ca_m2ib.md``).
    C are the contributions of a tower's tokens to its embedding, C' those of the other tower.

    - Cross-attention (eq. 4): A = softmax((λC)W_Q · (C'W_K)ᵀ / temperature), Ẽ' = A · C'W_V.
    - The fit term is −γ·cos(g(Z), ẽ'), ẽ' = normalise(e' + strength · normalise(Σ_i w_i Ẽ'_i)),
      w ∝ λ.
    - The information of token i weighs β_i = β·exp(−t·r_i), r_i the standardised agreement of its
      contribution with what it looks at, C_i·Ẽ'_i.

    Θ_A = {W_Q, W_K, W_V, W_O} belongs to one sample and direction, as λ does, and is fitted with
    it. The attribution is the information that passes, in **bits**.

    Args:
        forward_func: a :class:`~captum_ib.models.dual_encoder.DualEncoder`.
        layers: one block per tower, as in :class:`M2IB`.

    >>> import torch
    >>> from captum_ib import DualEncoder, zoo
    >>> loaded = zoo.load("clip-scenes")
    >>> ids, mask = loaded.tokenizer(["a red circle"])
    >>> pixels = torch.rand(1, 3, *loaded.image_size, generator=torch.Generator().manual_seed(0))
    >>> method = CAM2IB(DualEncoder.from_model(loaded.model))
    >>> (image, text), (seen, read) = method.attribute(
    ...     (pixels, ids), additional_forward_args=mask, seed=0, return_attention=True)
    >>> read.query, read.over_keys().shape  # for each word, where it looks
    ('text', torch.Size([1, 5, 7, 7]))
    """

    facts = Facts(
        takes=frozenset({"dual"}),
        unit=BITS,
        signed=False,
        paper="Bourigault et al.",
        description="as m2ib, guided by cross-attention between the two towers' tokens",
        passes=FIT_PASSES + ", and one forward per token, per tower",
        layers="many",
        options=FIT_OPTIONS,
    )

    def __init__(
        self,
        forward_func: DualEncoder,
        layers: Sequence[LayerLike | None] | None = None,
    ) -> None:
        dual = require_dual(forward_func, "CAM2IB")
        self.layers = tower_layers(dual, layers, "CAM2IB")
        super().__init__(dual, [[layer] for layer in self.layers])

    if TYPE_CHECKING:

        @overload
        def attribute(
            self,
            inputs: tuple[Tensor, Tensor],
            baselines: tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: None = ...,
            additional_forward_args: Any = ...,
            *,
            return_trace: Literal[False] = ...,
            return_attention: Literal[False] = ...,
            **options: Unpack[CAM2IBOptions],
        ) -> Maps: ...

        @overload
        def attribute(
            self,
            inputs: tuple[Tensor, Tensor],
            baselines: tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: None = ...,
            additional_forward_args: Any = ...,
            *,
            return_trace: Literal[True],
            return_attention: Literal[False] = ...,
            **options: Unpack[CAM2IBOptions],
        ) -> tuple[Maps, Traces]: ...

        @overload
        def attribute(
            self,
            inputs: tuple[Tensor, Tensor],
            baselines: tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: None = ...,
            additional_forward_args: Any = ...,
            *,
            return_trace: Literal[False] = ...,
            return_attention: Literal[True],
            **options: Unpack[CAM2IBOptions],
        ) -> tuple[Maps, Attentions]: ...

        @overload
        def attribute(
            self,
            inputs: tuple[Tensor, Tensor],
            baselines: tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: None = ...,
            additional_forward_args: Any = ...,
            *,
            return_trace: Literal[True],
            return_attention: Literal[True],
            **options: Unpack[CAM2IBOptions],
        ) -> tuple[Maps, Traces, Attentions]: ...

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: tuple[Tensor, ...] | ActivationStatistics | None = None,
        target: None = None,
        additional_forward_args: Any = None,
        *,
        beta: PerTower = 0.1,
        gamma: PerTower = 1.0,
        prior: Literal["standard", "estimated"] = "standard",
        variance: PerTower = 1.0,
        cross_attention: bool = True,
        temperature: PerTower = 0.1,
        target_strength: PerTower = 1.0,
        guidance: PerTower = 3.0,
        attention_lr: PerTower = 1e-3,
        residual: bool | tuple[bool, bool] = False,
        queries: Literal["early", "layer"] = "early",
        keys: Literal["contributions", "tokens"] = "contributions",
        n_steps: int = 10,
        n_samples: int = 4,
        antithetic: bool = True,
        lr: float = 1.0,
        min_std: float = MIN_STD,
        layout: Sequence[TokenLayout | None] | None = None,
        internal_batch_size: int | None = None,
        reduce: Literal["sum", "none"] = "sum",
        seed: int | None = None,
        replay: bool = True,
        return_trace: bool = False,
        return_attention: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Bits per patch and per token of a batch of pairs. Common arguments: :class:`M2IB`.

        Args:
            inputs, baselines, target, additional_forward_args: as in :class:`M2IB`.
            beta, prior, variance: as in :class:`M2IB` (0.1; N(0, 1)).
            gamma: weight γ of the fit term; only γ/β matters, up to the rounding of Adam's ε.
            cross_attention: ``False`` gives M2IB's result, to the last bit with the same seed.
            temperature: of the softmax, for contributions scaled to mean length 1.
            target_strength: weight of the attended value in the target; 0: e' itself.
            guidance: t of the compression's guidance; 0: none.
            attention_lr: Adam's learning rate for Θ_A; 0 leaves it at its start.
            residual: eq. 5, the signal becomes R + W_O·Ẽ' (W_O starts at 0).
            queries: where the tokens' contributions are measured: ``"early"``, before the first
                block, or ``"layer"``, at the bottleneck's layer.
            keys: what the other modality's tokens are: their ``"contributions"``, or the last
                layer's ``"tokens"`` in the joint space.
            n_steps, n_samples, antithetic, lr, min_std, layout: as in :class:`M2IB`.
            internal_batch_size, reduce, seed, replay, show_progress: as in :class:`M2IB`.
            return_trace: also return the two towers' traces.
            return_attention: also return the two directions' :class:`CrossAttention`, last.

        Most settings also take a tuple, one value per tower.

        Returns:
            ``(image_attr, text_attr)`` as from :class:`M2IB`; with ``return_trace`` and
            ``return_attention`` a tuple of this pair, the traces, the attentions.

        Raises:
            ValueError: ``return_attention`` without ``cross_attention``; a setting out of range;
                ``keys="tokens"`` where the last layer has other tokens; else as :class:`M2IB`.
            TypeError, RuntimeError: as in :class:`M2IB`.
        """
        calls = pair_calls(self.dual, inputs, additional_forward_args, target)
        if return_attention and not cross_attention:
            raise ValueError("return_attention=True needs cross_attention=True")
        layouts = per_call(layout, "layout", calls)
        plans = pair_plans(
            self._noises(calls, baselines, prior, variance, min_std),
            FitSettings(n_steps, n_samples, antithetic, lr),
            seed_of(seed, reduce),
            layouts,
            internal_batch_size,
            replay,
            return_trace,
        )
        betas = [require_weight("beta", one) for one in per_call(beta, "beta", calls)]
        gammas = [
            require_weight("gamma", one, positive=True) for one in per_call(gamma, "gamma", calls)
        ]
        guides = guides_of(calls, temperature, guidance, target_strength, attention_lr, residual)
        if not cross_attention:
            builds = [
                partial(CAM2IBBottleneck, beta=one, gamma=other, guide=None)
                for one, other in zip(betas, gammas, strict=True)
            ]
            fits = self._explain(calls, builds, plans, show_progress)
            return pair_result(fits, reduce, return_trace)
        sides, tokens = facing(
            self.dual,
            calls,
            self.layers,
            layouts,
            queries=queries,
            keys=keys,
            internal_batch_size=internal_batch_size,
            replay=replay,
        )
        seen: list[tuple[str, Tensor]] = []
        builds = [
            partial(CAM2IBBottleneck, beta=one, gamma=other, guide=guide)
            for one, other, guide in zip(betas, gammas, guides, strict=True)
        ]
        fits = self._explain(
            sides, builds, plans, show_progress, lambda one: seen.append(one.attended())
        )
        result = pair_result(fits, reduce, return_trace)
        if not return_attention:
            return result
        attentions = self._attentions(fits, tokens, seen)
        return (*result, attentions) if return_trace else (result, attentions)

    def _attentions(
        self,
        fits: Sequence[Explained],
        tokens: Sequence[Contributions],
        seen: Sequence[tuple[str, Tensor]],
    ) -> Attentions:
        """What the fits' parts left, as one attention per direction."""
        names = self.dual.modalities[:2]
        width = tokens[0].values.shape[-1]
        first, second = (
            CrossAttention(
                torch.cat([weights for name, weights in seen if name == names[index]]),
                names[index],
                names[1 - index],
                tokens[index].layout,
                tokens[1 - index].layout,
                width * (3 * width + result.bits[0].shape[result.layouts[0].channel_axis]),
            )
            for index, result in enumerate(fits)
        )
        return first, second


def guides_of(
    calls: Sequence[TowerCall],
    temperature: PerTower,
    guidance: PerTower,
    target_strength: PerTower,
    attention_lr: PerTower,
    residual: bool | tuple[bool, bool],
) -> list[Guide]:
    """The settings of each direction's cross-attention."""
    values = zip(
        per_call(temperature, "temperature", calls),
        per_call(guidance, "guidance", calls),
        per_call(target_strength, "target_strength", calls),
        per_call(attention_lr, "attention_lr", calls),
        per_call(residual, "residual", calls),
        strict=True,
    )
    return [Guide(*one) for one in values]
