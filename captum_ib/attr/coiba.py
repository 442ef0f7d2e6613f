"""CoIBA: one damping ratio for bottlenecks in many layers at once (Hong et al., CVPR 2025)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor, nn

from captum_ib.attr.base import (
    FIT_OPTIONS,
    Auto,
    BottleneckAttribution,
    Bottlenecks,
    Layers,
    Noise,
    Plan,
    fit_passes,
    require_smoothing,
    seed_of,
    smoothing_of,
)
from captum_ib.bottleneck import (
    MIN_STD,
    ActivationStatistics,
    Damping,
    FitSettings,
    FitTrace,
    Terms,
)
from captum_ib.checks import BatchSize, require_choice, require_weight
from captum_ib.facts import BITS, Facts
from captum_ib.forward import (
    Call,
    Inputs,
    Objective,
    as_given,
    cross_entropy,
    log_usage,
    named_layers,
    prepare,
)
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import LayerLike

if TYPE_CHECKING:
    from captum_ib.attr.options import CoIBAOptions, Unpack


class CoIBABottlenecks(Bottlenecks):
    """The paper's equations, for some samples.

    Layers l = 0 … L − 1 in running order; R'_l is the activation of layer l behind the bottlenecks
    before it.

    Args:
        layers: the layers.
        betas: β, one per layer (only the first counts for the upper bound).
        layerwise: eq. 4 in the place of eq. 8.
        shared, uniform, smoothing: how λ is made; the paper's: shared, uniform, not smoothed.
        objective: see :meth:`CoIBA.attribute`.
    """

    def __init__(
        self,
        layers: Layers[Call],
        betas: Sequence[float],
        layerwise: bool,
        shared: bool,
        uniform: bool,
        smoothing: float | Auto | None,
        objective: Objective,
    ) -> None:
        self.layers, self.betas = layers, betas
        self.objective = layers.call.along_classes(objective)
        self.information_by_draw = layerwise
        smoothing = smoothing_of(smoothing, layers.layouts[0])
        # eq. 5: one λ ∈ R^{P×1} for all layers and channels
        damping = Damping.shared if shared else Damping.individual
        self.damping = damping(layers.R, layers.layouts, uniform=uniform, smoothing=smoothing)

    def loss(self, draws: list[Tensor]) -> Terms:
        """L = L_CE + β · information (eq. 6, with eq. 8; or eq. 4)."""
        channels = self.layers.channels
        lam = [self.damping(l) for l in range(len(channels))]
        information: list[Tensor] = []

        def bottleneck(l: int, R: Tensor) -> Tensor:
            if self.information_by_draw:  # of R'_l, so it depends on the noise before
                information.append(channels[l].information(lam[l], channels[l].normalized(R)))
            return channels[l].pass_on(R, lam[l], draws[l])  # eq. 3: Z_l = λR'_l + (1 − λ)ε_l

        output = self.layers.run(bottleneck, len(draws[0]))
        L_CE = self.layers.by_draw(self.objective(output, self.layers.call.index(output)))
        if not information:  # eq. 8: the first bottleneck's information bounds all others'
            bound = channels[0].mean(channels[0].information(lam[0]))
            return Terms(L_CE, self.betas[0] * bound)
        means = [
            beta * torch.stack([channel.mean(draw) for draw in nats])
            for beta, channel, nats in zip(self.betas, channels, information, strict=True)
        ]
        return Terms(L_CE, torch.stack(means).mean(dim=0), information)  # eq. 4


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

    facts = Facts(
        takes=frozenset({"classifier", "generator"}),
        unit=BITS,
        signed=False,
        paper="Hong et al., CVPR 2025",
        description="information that a whole range of layers passes on for the class",
        passes=fit_passes(4),
        layers="many",
        options=FIT_OPTIONS,
    )

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layers: LayerLike | Sequence[LayerLike] | None = None,
    ) -> None:
        model = forward_func if isinstance(forward_func, nn.Module) else None
        self.layers = named_layers(model, layers, "CoIBA")
        super().__init__(forward_func, [self.layers])

    if TYPE_CHECKING:

        @overload
        def attribute(
            self,
            inputs: Inputs,
            baselines: Tensor | tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: Any = ...,
            additional_forward_args: Any = ...,
            attribute_to_layer_input: bool = ...,
            *,
            return_trace: Literal[False] = ...,
            **options: Unpack[CoIBAOptions],
        ) -> Inputs: ...

        @overload
        def attribute(
            self,
            inputs: Inputs,
            baselines: Tensor | tuple[Tensor, ...] | ActivationStatistics | None = ...,
            target: Any = ...,
            additional_forward_args: Any = ...,
            attribute_to_layer_input: bool = ...,
            *,
            return_trace: Literal[True],
            **options: Unpack[CoIBAOptions],
        ) -> tuple[Inputs, FitTrace]: ...

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
        smoothing: float | Auto | None = None,
        mask_inactive: bool | Auto = False,
        min_std: float = MIN_STD,
        objective: Objective = cross_entropy,
        layout: TokenLayout | Sequence[TokenLayout] | None = None,
        internal_batch_size: BatchSize = None,
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
        call = prepare(self.forward_func, inputs, additional_forward_args, target)
        plan = Plan(
            Noise(
                self.statistics_for([call], baselines, attribute_to_layer_input),
                None,
                mask_inactive,
                min_std,
            ),
            FitSettings(n_steps, n_samples, antithetic, lr),
            seed_of(seed, reduce),
            attribute_to_layer_input,
            layout,
            internal_batch_size,
            replay,
            return_trace,
        )
        require_choice("compression", compression, ("upper_bound", "layerwise"))
        require_choice("damping", damping, ("shared", "individual"))
        require_choice("channel", channel, ("uniform", "elementwise"))
        build = partial(
            CoIBABottlenecks,
            betas=betas_of(beta, len(self.layers)),
            layerwise=compression == "layerwise",
            shared=damping == "shared",
            uniform=channel == "uniform",
            smoothing=require_smoothing(smoothing),
            objective=objective,
        )
        (fitted,) = self._explain([call], [build], [plan], show_progress)
        maps = as_given([fitted.attribution(reduce)], [call])
        return (maps, fitted.trace) if return_trace else maps


def betas_of(beta: float | Sequence[float], n_layers: int) -> list[float]:
    """β per layer.

    Raises:
        TypeError: no numbers.
        ValueError: another number of values, or one that is negative or not finite.
    """
    given: list[Any] = list(beta) if isinstance(beta, (tuple, list)) else [beta] * n_layers
    if len(given) != n_layers:
        raise ValueError(f"given {len(given)} values of beta for {n_layers} layers")
    return [require_weight("beta", value) for value in given]
