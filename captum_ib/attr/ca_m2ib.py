"""CA-M2IB: M2IB guided by cross-attention between the two towers (Bourigault et al.)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor

from captum_ib.attr._base import log_usage, run_settings
from captum_ib.forward.call import select
from captum_ib.attr._contributions import Contributions
from captum_ib.attr._cross_attention import GuideSettings
from captum_ib.attr._explain import Explained, Plan
from captum_ib.attr._guidance import builder, facing
from captum_ib.attr._pairs import (
    PairAttribution,
    PairNoise,
    finish_pair,
    per_tower,
    require_dual,
    require_no_target,
)
from captum_ib.attr._settings import BottleneckSettings
from captum_ib.attr._towers import pair_calls, tower_layers
from captum_ib.bottleneck import MIN_STD, ActivationStatistics, FitSettings
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import LayerLike
from captum_ib.layout import TokenLayout

PerTower = float | tuple[float, float]


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

    def __init__(
        self,
        forward_func: DualEncoder,
        layers: Sequence[LayerLike | None] | None = None,
    ) -> None:
        dual = require_dual(forward_func, "CAM2IB")
        self.layers = tower_layers(dual, layers)
        super().__init__(dual, [[layer] for layer in self.layers])

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
        require_no_target(target)
        if return_attention and not cross_attention:
            raise ValueError("return_attention=True needs cross_attention=True")
        calls = pair_calls(self.dual, inputs, additional_forward_args)
        noise = PairNoise(prior, per_tower(variance, "variance"), self._reference(baselines))
        run = run_settings(seed, internal_batch_size, replay, return_trace, reduce)
        layouts = per_tower(layout, "layout")
        guides = [
            GuideSettings(*values)
            for values in zip(
                per_tower(temperature, "temperature"),
                per_tower(guidance, "guidance"),
                per_tower(target_strength, "target_strength"),
                per_tower(attention_lr, "attention_lr"),
                per_tower(residual, "residual"),
                strict=True,
            )
        ]
        plans = [
            Plan(
                noise.of_tower(index),
                BottleneckSettings(tower_beta, min_std=min_std),
                FitSettings(n_steps, n_samples, antithetic, lr),
                run,
                layout=layouts[index],
                objective=partial(_weighted_similarity, tower_gamma),
                build=builder(guides[index] if cross_attention else None),
            )
            for index, (tower_beta, tower_gamma) in enumerate(
                zip(per_tower(beta, "beta"), _gammas(gamma), strict=True)
            )
        ]
        if not cross_attention:
            return finish_pair(self._fit(calls, plans, show_progress), reduce, return_trace)
        sides, tokens = facing(self.dual, calls, self.layers, layouts, run, queries, keys)
        fits = self._fit(sides, plans, show_progress)
        result = finish_pair(fits, reduce, return_trace)
        if not return_attention:
            return result
        attention = self._attention(fits, tokens)
        return (*result, attention) if return_trace else (result, attention)

    def _attention(
        self, fits: Sequence[Explained], tokens: Sequence[Contributions]
    ) -> tuple[CrossAttention, ...]:
        names = self.dual.modalities
        width = tokens[0].values.shape[-1]
        return tuple(
            CrossAttention(
                result.extras["attention"],
                names[index],
                names[1 - index],
                tokens[index].layout,
                tokens[1 - index].layout,
                width * (3 * width + result.bits[0].shape[result.layouts[0].channel_axis]),
            )
            for index, result in enumerate(fits)
        )


def _weighted_similarity(gamma: float, output: Tensor, index: Tensor | None) -> Tensor:
    return -gamma * select(output, index)


def _gammas(gamma: PerTower) -> tuple[float, float]:
    for value in per_tower(gamma, "gamma"):
        if not 0 < value < float("inf"):
            raise ValueError(f"gamma must be positive and finite, given {value}")
    return per_tower(gamma, "gamma")
