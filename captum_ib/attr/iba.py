"""IBA: how many bits of one layer's activation a class output needs (Schulz et al., ICLR 2020)."""

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
            block at half depth; ``"auto"``: the depth that did best in docs/layers.md.

    >>> import torch
    >>> from captum_ib import IBA
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
    ...     torch.nn.Linear(4 * 8 * 8, 5))
    >>> IBA(model, "0").attribute(torch.rand(2, 3, 8, 8), target=1, seed=0).shape
    torch.Size([2, 1, 8, 8])
    """

    method = "iba"

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerLike | Sequence[LayerLike] | None = None,
    ) -> None:
        super().__init__(forward_func, layer)

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
        n_steps: int = 10,
        n_samples: int = 10,
        antithetic: bool = False,
        lr: float = 1.0,
        smoothing: float | Literal["auto"] | None = "auto",
        mask_inactive: bool | Literal["auto"] = "auto",
        min_std: float = MIN_STD,
        objective: Objective = class_objective,
        layout: TokenLayout | None = None,
        internal_batch_size: int | None = None,
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
            objective: (output, target index) → value per row to minimise; default cross-entropy.
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
        call = prepare(self.forward_func, inputs, additional_forward_args)
        plan = Plan(
            self._priors(call, baselines, attribute_to_layer_input),
            BottleneckSettings(
                beta, smoothing=smoothing, mask_inactive=mask_inactive, min_std=min_std
            ),
            FitSettings(n_steps, n_samples, antithetic, lr),
            run_settings(seed, internal_batch_size, replay, return_trace, reduce),
            attribute_to_layer_input,
            layout,
            objective,
        )
        total = len(self.layers) * plan.steps(call.n)
        with progress(total, self.get_name(), show_progress) as tick:
            fits = [explain(call, [layer], target, plan, tick) for layer in self.layers]
        return finish(fits, call, reduce, return_trace)
