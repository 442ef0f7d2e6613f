"""M2IB: what an image and a text must keep to stay similar (Wang et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

from torch import Tensor

from captum_ib.attr.base import Bottlenecks, seed_of
from captum_ib.attr.pairs import (
    PairAttribution,
    TowerLayers,
    pair_facts,
    pair_plans,
    pair_result,
    weights,
)
from captum_ib.bottleneck import (
    MIN_STD,
    ActivationStatistics,
    Damping,
    FitSettings,
    FitTrace,
    Terms,
)
from captum_ib.checks import BatchSize
from captum_ib.forward import (
    cosine,
    log_usage,
    pair_calls,
    per_call,
)
from captum_ib.layout import TokenLayout

if TYPE_CHECKING:
    from captum_ib.attr.options import M2IBOptions, Unpack


class M2IBBottleneck(Bottlenecks):
    """The paper's equations, for one tower and some pairs.

    R is the layer's activation, g the rest of the tower, e' the other input's embedding.

    Args:
        layers: the one layer, in a call whose output is g.
        beta: β.
    """

    def __init__(self, layers: TowerLayers, beta: float) -> None:
        self.layers, self.beta = layers, beta
        self.damping = Damping.shared(layers.R, layers.layouts, uniform=False)  # λ per element

    def loss(self, draws: list[Tensor]) -> Terms:
        """L = −cos(g(Z), e') + β · KL (eq. 9–10)."""
        lam, channel = self.damping(0), self.layers.channels[0]
        # Z = λR + (1 − λ)ε
        g_Z = self.layers.run(lambda _, R: channel.pass_on(R, lam, draws[0]), len(draws[0]))
        similarity = cosine(g_Z, self.layers.call.other)
        compression = channel.mean(channel.information(lam))
        return Terms(-self.layers.by_draw(similarity), self.beta * compression)


class M2IB(PairAttribution):
    """Multi-Modal Information Bottleneck attribution.

    For each tower in turn, one block's output R becomes Z = λR + (1 − λ)ε with one λ per element,
    and α minimises −cos(g(Z), e_other) + β · mean(KL), e_other being the other input's embedding
    (Wang et al., eq. 9–10). The attribution is the information that still passes, in **bits** per
    patch or token.

    Args:
        forward_func: a :class:`~captum_ib.models.dual_encoder.DualEncoder`.
        layers: one block per tower (module, dotted name, or ``None``); default: the block at
            ⌊0.75 · depth⌋ (9 of 12), the paper's.

    >>> import torch
    >>> from captum_ib import DualEncoder, zoo
    >>> loaded = zoo.load("clip-scenes")
    >>> ids, mask = loaded.tokenizer(["a red circle"])
    >>> pixels = torch.zeros(1, 3, *loaded.image_size)
    >>> image, text = M2IB(DualEncoder.from_model(loaded.model)).attribute(
    ...     (pixels, ids), additional_forward_args=mask, seed=0)
    >>> image.ndim, text.shape == ids.shape
    (4, True)
    """

    facts = pair_facts(
        "Wang et al., NeurIPS 2023",
        "information that each tower passes on for the similarity of the pair",
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
            **options: Unpack[M2IBOptions],
        ) -> tuple[Tensor, Tensor]: ...

        @overload
        def attribute(
            self,
            inputs: tuple[Tensor, Tensor],
            baselines: tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: None = ...,
            additional_forward_args: Any = ...,
            *,
            return_trace: Literal[True],
            **options: Unpack[M2IBOptions],
        ) -> tuple[tuple[Tensor, Tensor], tuple[FitTrace, FitTrace]]: ...

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: tuple[Tensor, ...] | ActivationStatistics | None = None,
        target: None = None,
        additional_forward_args: Any = None,
        *,
        beta: float | tuple[float, float] = 0.1,
        prior: Literal["standard", "estimated"] = "standard",
        variance: float | tuple[float, float] = 1.0,
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
        show_progress: bool = False,
    ) -> Any:
        """Bits per patch and per token of a batch of pairs. Common arguments: :class:`IBA`.

        Args:
            inputs: pair of tensors, e.g. ``(pixel_values, input_ids)``, N samples each.
            baselines: for ``prior="estimated"``: reference pairs (with their masks behind them,
                where the pairs have masks), or statistics of both layers; default: the sample's
                own activation over its positions.
            target: not used; a pair has one output.
            additional_forward_args: the mask, or the masks, of the modalities with padding.
            beta: weight of the information (Wang et al., section 4: 0.1); also one per tower.
            prior: ``"standard"``: N(0, σ²) (the paper); ``"estimated"``: mean and variance of the
                layer (see ``baselines``).
            variance: σ² of the standard prior (Wang et al.: 1); also one per tower.
            n_steps, lr, min_std: as in :class:`IBA`.
            n_samples, antithetic: 4 draws in antithetic pairs, as in :class:`CoIBA`; the authors:
                10 independent ones.
            layout: per tower, where it can't be inferred.
            internal_batch_size, reduce, seed, replay, show_progress: as in :class:`IBA`.
            return_trace: also return the two towers' traces.

        Returns:
            ``(image_attr, text_attr)``, ≥ 0, in bits: ``(N, 1, h, w)`` and ``(N, T)``, padding 0;
            layer-shaped with ``reduce="none"``.

        Raises:
            TypeError, ValueError, RuntimeError: as in :class:`IBA`.
        """
        calls = pair_calls(self.dual, inputs, additional_forward_args, target)
        plans = pair_plans(
            self._noises(calls, baselines, prior, variance, min_std),
            FitSettings(n_steps, n_samples, antithetic, lr),
            seed_of(seed, reduce),
            per_call(layout, "layout", calls),
            internal_batch_size,
            replay,
            return_trace,
        )
        builds = [partial(M2IBBottleneck, beta=one) for one in weights("beta", beta, calls)]
        fits = self._explain(calls, builds, plans, show_progress)
        return pair_result(fits, reduce, return_trace)
