"""M2IB: what an image and a text must keep to stay similar (Wang et al., NeurIPS 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from captum_ib.attr._base import log_usage, run_settings
from captum_ib.attr._explain import Plan
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

    def __init__(
        self,
        forward_func: DualEncoder,
        layers: Sequence[LayerLike | None] | None = None,
    ) -> None:
        dual = require_dual(forward_func, "M2IB")
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
        beta: float | tuple[float, float] = 0.1,
        prior: Literal["standard", "estimated"] = "standard",
        variance: float | tuple[float, float] = 1.0,
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
        require_no_target(target)
        calls = pair_calls(self.dual, inputs, additional_forward_args)
        noise = PairNoise(prior, per_tower(variance, "variance"), self._reference(baselines))
        settings = run_settings(seed, internal_batch_size, replay, return_trace, reduce)
        layouts = per_tower(layout, "layout")
        plans = [
            Plan(
                noise.of_tower(index),
                BottleneckSettings(tower_beta, min_std=min_std),
                FitSettings(n_steps, n_samples, antithetic, lr),
                settings,
                layout=layouts[index],
            )
            for index, tower_beta in enumerate(per_tower(beta, "beta"))
        ]
        return finish_pair(self._fit(calls, plans, show_progress), reduce, return_trace)
