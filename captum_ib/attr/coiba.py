"""CoIBA: one damping ratio for bottlenecks in many layers at once (Hong et al., CVPR 2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import Tensor

from captum_ib.attr._base import BottleneckAttribution, finish, log_usage, run_settings
from captum_ib.forward.call import Objective, class_objective, prepare
from captum_ib.attr._explain import Plan, explain
from captum_ib.forward.progress import progress
from captum_ib.attr._settings import BottleneckSettings
from captum_ib.bottleneck import MIN_STD, ActivationStatistics, FitSettings
from captum_ib.models.layers import LayerLike
from captum_ib.layout import TokenLayout


class CoIBA(BottleneckAttribution):
    """Comprehensive Information Bottleneck Attribution.

    Every layer l of a range gets a bottleneck Z_l = λR'_l + (1 − λ)ε_l, where R'_l is the already
    bottlenecked activation, ε_l ~ N(μ_l, σ_l²), and one damping ratio λ ∈ R^{P×1} is shared by all
    layers and uniform over channels (Hong et al., eq. 3–5). α minimises cross-entropy + β times the
    information at the *first* bottleneck, which bounds that of all the others (eq. 6–8). The
    attribution is that information, in **bits** per position.

    Layers of different resolution (stages of a Swin or a CNN) share λ on the finest grid; coarser
    layers take its area average.

    Args:
        forward_func: the model, or a function that calls it.
        layers: modules or dotted names in any order; default, and ``"paper"``: the first
            normalisations of the blocks in the last two thirds (ViT-B: ``blocks.4…11.norm1``);
            ``"auto"``: from the block on that did best in docs/layers.md.

    >>> import torch
    >>> from captum_ib import CoIBA
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 6, 2, stride=2),
    ...     torch.nn.Flatten(), torch.nn.Linear(6 * 4 * 4, 5))
    >>> CoIBA(model, ["0", "1"]).attribute(torch.rand(2, 3, 8, 8), target=1, seed=0).shape
    torch.Size([2, 1, 8, 8])
    """

    method = "coiba"

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layers: LayerLike | Sequence[LayerLike] | None = None,
    ) -> None:
        super().__init__(forward_func, layers)

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Tensor | tuple[Tensor, ...] | ActivationStatistics | None = None,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        beta: float | Sequence[float] = 1.0,
        compression: Literal["upper_bound", "layerwise"] = "upper_bound",
        damping: Literal["shared", "individual"] = "shared",
        channel: Literal["uniform", "elementwise"] = "uniform",
        n_steps: int = 10,
        n_samples: int = 4,
        antithetic: bool = True,
        lr: float = 1.0,
        smoothing: float | Literal["auto"] | None = None,
        mask_inactive: bool | Literal["auto"] = False,
        min_std: float = MIN_STD,
        objective: Objective = class_objective,
        layout: TokenLayout | Sequence[TokenLayout] | None = None,
        internal_batch_size: int | None = None,
        reduce: Literal["sum", "none"] = "sum",
        seed: int | None = None,
        replay: bool = True,
        return_trace: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Bits per position at the first bottleneck. Common arguments: :meth:`IBA.attribute`.

        Args:
            inputs: tensor or tuple of tensors, samples on axis 0.
            baselines: reference inputs, or statistics of all layers, for the noise.
            target: class to explain, in any of Captum's forms.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            attribute_to_layer_input: put the bottlenecks on the layers' inputs.
            beta: weight of the information (Hong et al., section 4: 1); one per layer for
                ``compression="layerwise"``.
            compression: ``"upper_bound"`` (eq. 8) or ``"layerwise"``: the mean over the layers
                (eq. 4; the attribution is then the mean of the layers' maps).
            damping: ``"shared"`` or ``"individual"``, the paper's ablation: one λ per layer. With
                the upper bound only the first layer's λ is then compressed.
            channel: ``"uniform"`` or ``"elementwise"``, the paper's non-uniform ablation.
            n_steps, lr, min_std, objective: as in :class:`IBA`.
            n_samples: noise draws per step; 4 in antithetic pairs give the same map as the
                authors' 10 independent ones (docs/results.md).
            antithetic: draw the noise in pairs ε, −ε.
            smoothing, mask_inactive: as in :class:`IBA`; CoIBA uses neither.
            layout: one for all layers, or one per layer in running order.
            internal_batch_size, reduce, seed, replay, return_trace, show_progress: as in
                :class:`IBA`.

        Returns:
            Attribution ≥ 0 in bits: ``(N, 1, h, w)``, ``(N, T)`` or ``(N, C)`` of the first
            layer; in a tuple when ``inputs`` is one; with the trace on request.

        Raises:
            ValueError: as in :class:`IBA`; also layers that can't share a damping ratio.
            TypeError, RuntimeError: as in :class:`IBA`.
        """
        call = prepare(self.forward_func, inputs, additional_forward_args)
        plan = Plan(
            self._priors(call, baselines, attribute_to_layer_input),
            BottleneckSettings(
                beta, channel, damping, compression, smoothing, mask_inactive, min_std
            ),
            FitSettings(n_steps, n_samples, antithetic, lr),
            run_settings(seed, internal_batch_size, replay, return_trace, reduce),
            attribute_to_layer_input,
            layout,
            objective,
        )
        with progress(plan.steps(call.n), self.get_name(), show_progress) as tick:
            fits = [explain(call, self.layers, target, plan, tick)]
        return finish(fits, call, reduce, return_trace)
