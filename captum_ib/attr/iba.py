"""IBA: how many bits of one layer's activation a class output needs (Schulz et al., ICLR 2020)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

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
    mean_map,
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
    from captum_ib.attr.options import IBAOptions, Unpack


class IBABottleneck(Bottlenecks):
    """The paper's equations, for some samples; R is the layer's activation.

    Args:
        layers: the one layer.
        beta, smoothing, objective: see :meth:`IBA.attribute`.
        uniform: one λ per position, not per element.
    """

    def __init__(
        self,
        layers: Layers[Call],
        beta: float,
        uniform: bool,
        smoothing: float | Auto | None,
        objective: Objective,
    ) -> None:
        self.layers, self.beta = layers, beta
        self.objective = layers.call.along_classes(objective)
        smoothing = smoothing_of(smoothing, layers.layouts[0])
        # λ = sigmoid(α), one per element, smoothed over positions (section 3.3).
        self.damping = Damping.shared(
            layers.R, layers.layouts, uniform=uniform, smoothing=smoothing
        )

    def loss(self, draws: list[Tensor]) -> Terms:
        """L = L_CE + βL_I (eq. 6)."""
        lam, channel = self.damping(0), self.layers.channels[0]
        # eq. 2: Z = λR + (1 − λ)ε
        output = self.layers.run(lambda _, R: channel.pass_on(R, lam, draws[0]), len(draws[0]))
        L_CE = self.objective(output, self.layers.call.index(output))
        L_I = channel.mean(channel.information(lam))  # eq. 5: KL[P(Z|R) ‖ Q(Z)]
        return Terms(self.layers.by_draw(L_CE), self.beta * L_I)


class IBA(BottleneckAttribution):
    """Per-sample Information Bottleneck Attribution.

    The layer's output R becomes Z = λR + (1 − λ)ε with ε ~ N(μ, σ²) and one damping ratio
    λ = sigmoid(α) per element. α minimises cross-entropy + β · mean(KL) (Schulz et al., eq. 6);
    the attribution is the information that still passes, in **bits** per position.

    With several layers, each is fitted on its own and the maps are averaged: IBA* of the CoIBA
    paper's comparison.

    Args:
        forward_func: the model, or a function that calls it.
        layer: module or dotted name, or a sequence of them (IBA*); default, and ``"paper"``: the
            block at half depth; ``"auto"``: the depth that did best in docs/layers.md; ``"coiba"``:
            the layers that CoIBA takes by itself, IBA* of its tables.

    >>> import torch
    >>> from captum_ib import IBA
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
    ...     torch.nn.Linear(4 * 8 * 8, 5))
    >>> IBA(model, "0").attribute(torch.rand(2, 3, 8, 8), target=1, seed=0).shape
    torch.Size([2, 1, 8, 8])
    """

    facts = Facts(
        takes=frozenset({"classifier", "generator"}),
        unit=BITS,
        signed=False,
        paper="Schulz et al., ICLR 2020",
        description="information that one layer passes on for the class",
        passes=fit_passes(10),
        layers="many",
        options=FIT_OPTIONS,
    )

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerLike | Sequence[LayerLike] | None = None,
    ) -> None:
        model = forward_func if isinstance(forward_func, nn.Module) else None
        star = isinstance(layer, str) and layer == "coiba"
        self.layers = named_layers(model, None if star else layer, "CoIBA" if star else "IBA")
        super().__init__(forward_func, [[layer] for layer in self.layers])

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
            **options: Unpack[IBAOptions],
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
            **options: Unpack[IBAOptions],
        ) -> tuple[Inputs, FitTrace | list[FitTrace]]: ...

    @log_usage()
    def attribute(
        self,
        inputs: Tensor | tuple[Tensor, ...],
        baselines: Tensor | tuple[Tensor, ...] | ActivationStatistics | None = None,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        beta: float = 10.0,
        channel: Literal["elementwise", "uniform"] = "elementwise",
        n_steps: int = 10,
        n_samples: int = 10,
        antithetic: bool = False,
        lr: float = 1.0,
        smoothing: float | Auto | None = "auto",
        mask_inactive: bool | Auto = "auto",
        min_std: float = MIN_STD,
        objective: Objective = cross_entropy,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
        reduce: Literal["sum", "none"] = "sum",
        seed: int | None = None,
        replay: bool = True,
        return_trace: bool = False,
        show_progress: bool = False,
    ) -> Any:
        """Bits per position of the layer. Common arguments: ``docs/arguments.md``.

        Args:
            inputs: tensor or tuple of tensors, samples on axis 0.
            baselines: reference inputs, or statistics, for the noise; default: what
                :meth:`estimate` found, else the sample's own activation over its positions.
            target: class to explain, in any of Captum's forms.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            attribute_to_layer_input: put the bottleneck on the layer's input.
            beta: weight of the information (Schulz et al., section 5: 10).
            channel: ``"elementwise"``, one λ per element (Schulz et al.), or ``"uniform"``: one per
                position for all channels, as in CoIBA (Hong et al., Fig. 10).
            n_steps: steps of Adam (Schulz et al.: 10).
            n_samples: noise draws per step (the authors' code: 10). Fewer make the map noisier,
                see docs/results.md.
            antithetic: draw the noise in pairs ε, −ε (no gain for IBA, unlike for CoIBA and M2IB).
            lr: learning rate of α (Schulz et al.: 1).
            smoothing: σ of the Gaussian on 1 − λ, in cells; ``"auto"``: 1 on convolutional
                feature maps (Schulz et al., section 3.3), none elsewhere.
            mask_inactive: leave out neurons that are never active; ``"auto"``: on convolutional
                feature maps (the authors' code).
            min_std: lower bound of σ.
            objective: (output, target index) → value per row to minimise; default cross-entropy,
                minus the logit where there is one per sample; other axes:
                :func:`~captum_ib.forward.cross_entropy_at`; heads whose classes don't exclude
                others: :func:`~captum_ib.forward.binary_cross_entropy`.
            layout: the layer's axes, where they can't be inferred.
            internal_batch_size: most rows (samples · draws) per forward pass.
            reduce: ``"sum"`` over channels, or ``"none"``.
            seed: of the noise; default: drawn from torch's global generator.
            replay: compute only once what does not depend on the layer.
            return_trace: also return the :class:`~captum_ib.bottleneck.FitTrace` (a list of
                them for several layers).
            show_progress: show a progress bar.

        Returns:
            Attribution ≥ 0 in bits: ``(N, 1, h, w)``, ``(N, T)`` or ``(N, C)``; layer-shaped with
            ``reduce="none"``; in a tuple when ``inputs`` is one; with the trace on request.

        Raises:
            ValueError: NaN in the inputs or activations, a target out of range, an unknown layout.
            TypeError: arguments of a wrong type.
            RuntimeError: the output doesn't depend on the layer.
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
        require_choice("channel", channel, ("elementwise", "uniform"))
        build = partial(
            IBABottleneck,
            beta=require_weight("beta", beta),
            uniform=channel == "uniform",
            smoothing=require_smoothing(smoothing),
            objective=objective,
        )
        n = len(self.layers)
        fits = self._explain([call] * n, [build] * n, [plan] * n, show_progress)
        maps = as_given([mean_map([one.attribution(reduce) for one in fits])], [call])
        traces = [one.trace for one in fits]
        return (maps, traces[0] if n == 1 else traces) if return_trace else maps
