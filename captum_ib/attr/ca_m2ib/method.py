"""CA-M2IB: M2IB guided by cross-attention (Bourigault, Bourigault, Mandic)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from torch import Tensor

from captum_ib.attr.base import seed_of
from captum_ib.attr.ca_m2ib.attention import Guide
from captum_ib.attr.ca_m2ib.bottleneck import CAM2IBBottleneck, UnguidedBottleneck
from captum_ib.attr.ca_m2ib.facing import facing
from captum_ib.attr.ca_m2ib.paper import PaperBottleneck, paper_calls, require_untuned
from captum_ib.attr.ca_m2ib.result import Attentions, attentions_of
from captum_ib.attr.pairs import PairAttribution, pair_facts, pair_plans, pair_result, weights
from captum_ib.bottleneck import MIN_STD, ActivationStatistics, FitSettings, FitTrace
from captum_ib.checks import BatchSize, require_choice
from captum_ib.forward import TowerCall, log_usage, pair_calls, per_call
from captum_ib.layout import TokenLayout

if TYPE_CHECKING:
    from captum_ib.attr.options import CAM2IBOptions, PerTower, Unpack

Maps = tuple[Tensor, Tensor]
Traces = tuple[FitTrace, FitTrace]


class CAM2IB(PairAttribution):
    """Multi-Modal Information Bottleneck attribution with cross-attention guidance.

    As :class:`M2IB`, each tower's layer gets Z = λR + (1 − λ)ε, with three differences
    (Bourigault, Bourigault, Mandic; what the paper leaves open is defined in
    ``docs/methods/ca_m2ib.md``, and ``variant="paper"`` is what it prints).
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

    facts = pair_facts(
        "Bourigault, Bourigault, Mandic",
        "as m2ib, guided by cross-attention between the two towers' tokens",
        ", and one forward per token",
    )

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
        variant: Literal["tuned", "paper"] = "tuned",
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
        internal_batch_size: BatchSize = None,
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
            variant: ``"paper"``: eq. 4, 5 and 7 as printed, see ``docs/methods/ca_m2ib.md``; it has
                none of ``temperature``, ``target_strength``, ``guidance``, ``residual``,
                ``queries`` and ``keys``, which are ours.
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
            ValueError: ``return_attention`` without ``cross_attention`` or with
                ``variant="paper"``; a setting out of range, or one that the variant has not;
                ``keys="tokens"`` where the last layer has other tokens; else as :class:`M2IB`.
            TypeError, RuntimeError: as in :class:`M2IB`.
        """
        calls = pair_calls(self.dual, inputs, additional_forward_args, target)
        if return_attention and not cross_attention:
            raise ValueError("return_attention=True needs cross_attention=True")
        require_choice("variant", variant, ("tuned", "paper"))
        if return_attention and variant == "paper":
            raise ValueError('return_attention=True needs variant="tuned"')
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
        betas = weights("beta", beta, calls)
        gammas = weights("gamma", gamma, calls, positive=True)
        guides = guides_of(calls, temperature, guidance, target_strength, attention_lr, residual)
        if not cross_attention:
            pairs = zip(betas, gammas, strict=True)
            plain = [partial(UnguidedBottleneck, beta=one, gamma=other) for one, other in pairs]
            fits = self._explain(calls, plain, plans, show_progress)
            return pair_result(fits, reduce, return_trace)
        if variant == "paper":
            require_untuned(
                {
                    "temperature": temperature,
                    "target_strength": target_strength,
                    "guidance": guidance,
                    "residual": residual,
                    "queries": queries,
                    "keys": keys,
                }
            )
            rates = weights("attention_lr", attention_lr, calls)
            printed = [
                partial(PaperBottleneck, beta=one, gamma=other, lr=rate, seed=plans[0].seed)
                for one, other, rate in zip(betas, gammas, rates, strict=True)
            ]
            fits = self._explain(paper_calls(calls), printed, plans, show_progress)
            return pair_result(fits, reduce, return_trace)
        sides = facing(
            calls,
            self.layers,
            layouts,
            queries=queries,
            keys=keys,
            internal_batch_size=internal_batch_size,
            replay=replay,
        )
        builds = [
            partial(CAM2IBBottleneck, beta=one, gamma=other, guide=guide)
            for one, other, guide in zip(betas, gammas, guides, strict=True)
        ]
        seen: list[tuple[str, Tensor]] = []
        fits = self._explain(
            sides, builds, plans, show_progress, lambda one: seen.append(one.attended())
        )
        result = pair_result(fits, reduce, return_trace)
        if not return_attention:
            return result
        attentions = attentions_of(sides, fits, seen)
        return (*result, attentions) if return_trace else (result, attentions)

    @log_usage()
    def interactions(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: tuple[Tensor, ...] | ActivationStatistics | None = None,
        target: None = None,
        additional_forward_args: Any = None,
        **settings: Any,
    ) -> Tensor:
        """Where each word looks: A of eq. 4, from the words to the picture.

        Args:
            inputs, baselines, target, additional_forward_args: as in :meth:`attribute`.
            settings: as :meth:`attribute` takes them; ``cross_attention`` stays on.

        Returns:
            ``(N, T, h, w)``; a map ≥ 0 that sums to 1 for every word that counts, 0 for others.
        """
        options: Any = {**settings, "return_attention": True}
        result = cast(
            Any, self.attribute(inputs, baselines, target, additional_forward_args, **options)
        )
        directions = cast("Attentions", result[-1])
        to_grid = [one for one in directions if one.key_layout.spatial]
        return (to_grid or list(directions))[-1].over_keys()


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
