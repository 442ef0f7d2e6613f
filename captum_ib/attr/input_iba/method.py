"""InputIBA: how many bits of each pixel or word the prediction needs (Zhang et al., NeurIPS 2021).

Three steps: IBA at a hidden layer finds the features that predict; a mask Λ_G over the input is
fitted so that its features are distributed like these, which makes the input's prior; a bottleneck
at the input is fitted against that prior.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from captum_ib.attr.base import FIT_OPTIONS, BottleneckAttribution, Noise, Plan, seed_of
from captum_ib.attr.input_iba.entry import site_of
from captum_ib.attr.input_iba.steps import PriorName, Settings, Variant, explained_part
from captum_ib.bottleneck import MIN_STD, ActivationStatistics, FitSettings
from captum_ib.checks import BatchSize, require_choice, require_weight
from captum_ib.facts import BITS, Facts
from captum_ib.forward import (
    Inputs,
    Objective,
    as_given,
    cross_entropy,
    in_parts,
    log_usage,
    named_layers,
    prepare,
    progress,
)
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import LayerLike


class InputIBA(BottleneckAttribution):
    """Input Information Bottleneck Attribution, at the resolution of the input.

    Args:
        forward_func: the model, or a function that calls it.
        layer: the hidden layer whose features are matched: module or dotted name; default, and
            ``"paper"`` or ``"auto"``: as :class:`captum_ib.IBA`.
        at: the module at whose output the input bottleneck sits, for inputs that are ids; default:
            the embedding that the ids go into. Of pictures and other numbers the input itself.

    >>> import torch
    >>> from captum_ib import InputIBA
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.Flatten(),
    ...     torch.nn.Linear(4 * 8 * 8, 5))
    >>> InputIBA(model, "0").attribute(torch.rand(2, 3, 8, 8), target=1, seed=0).shape
    torch.Size([2, 1, 8, 8])
    """

    facts = Facts(
        takes=frozenset({"classifier"}),
        unit=BITS,
        signed=False,
        paper="Zhang et al., NeurIPS 2021",
        description="information that each pixel or word passes on for the class",
        passes="100 steps x 10 draws, forward and backward: 10 at the layer, 90 at the input",
        layers="many",
        options=FIT_OPTIONS,
    )

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerLike | None = None,
        *,
        at: LayerLike | None = None,
    ) -> None:
        model = forward_func if isinstance(forward_func, nn.Module) else None
        self.layers = named_layers(model, layer, "IBA")
        if len(self.layers) > 1:
            raise ValueError(f"InputIBA takes one layer, given {len(self.layers)}")
        self.at = None if at is None else named_layers(model, at, "IBA")[0]
        super().__init__(forward_func, [self.layers])

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Tensor | tuple[Tensor, ...] | ActivationStatistics | None = None,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        *,
        prior: PriorName = "matched",
        variant: Variant = "corrected",
        beta: float = 20.0,
        feature_beta: float = 20.0,
        n_steps: int = 60,
        n_feature_steps: int = 10,
        n_prior_steps: int = 30,
        n_samples: int = 10,
        lr: float = 1.0,
        prior_lr: float = 0.1,
        smoothing: float | None = 1.0,
        min_std: float = MIN_STD,
        objective: Objective = cross_entropy,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
        reduce: Literal["sum", "none", "mask"] = "sum",
        seed: int | None = None,
        replay: bool = True,
        show_progress: bool = False,
    ) -> Inputs:
        """Bits per pixel or word. Common arguments: ``docs/arguments.md``.

        Args:
            inputs: one tensor, samples on axis 0: pictures, or ids of words ``(N, T)``; numbers
                are to be normalised, since the noise is N(0, 1).
            baselines: reference inputs, or statistics, for the noise at the layer; default: what
                :meth:`estimate` found, else the sample's own activation over its positions.
            target: class to explain, in any of Captum's forms.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            attribute_to_layer_input: match the features that go into the layer.
            prior: how the input's prior is fitted. ``"gan"``: as in the paper, sample by sample.
                ``"matched"``: by a closed-form distance between Gaussians (ours). ``"none"``: it
                is the noise alone.
            variant: ``"published"`` does as the authors' code where that differs from the paper:
                the GAN's real samples are weighed by nats, not by Λ*, and Λ_G starts without a
                logit (docs/methods/input_iba.md).
            beta: weight of the information at the input (authors' code: 20).
            feature_beta: weight at the layer (authors' code: 20).
            n_steps: steps of Adam at the input (authors' code: 60).
            n_feature_steps: steps at the layer (authors' code: 10).
            n_prior_steps: steps of Adam for ``"matched"`` (ours).
            n_samples: noise draws per step (authors' code: 10).
            lr: learning rate of α at the layer and at the input (authors' code: 1).
            prior_lr: learning rate for ``"matched"`` (ours).
            smoothing: σ of the Gaussian over Λ, in pixels (authors' code: 1); not used for words.
            min_std: lower bound of the layer's σ (authors' code: 0.01).
            objective: as in :meth:`captum_ib.IBA.attribute`.
            layout: the layer's axes, where they can't be inferred.
            internal_batch_size: most rows (samples · draws) per forward pass; the GAN's batches of
                32 draws go through at once, since its critic normalises over them.
            reduce: ``"sum"`` over channels, ``"none"``, or ``"mask"``: Λ before it is smoothed,
                the mean over channels, in [0, 1], which the authors' code shows.
            seed: of all noise; default: drawn from torch's global generator.
            replay: compute only once what does not depend on the layer.
            show_progress: show a progress bar.

        Returns:
            Attribution ≥ 0 in bits: ``(N, 1, H, W)`` of pictures, ``(N, T)`` of words; of the
            input's shape with ``reduce="none"``; in a tuple when ``inputs`` is one.

        Raises:
            ValueError: NaN in the inputs, a target out of range, an unknown layout, several
                inputs.
            TypeError: arguments of a wrong type.
            RuntimeError: the output doesn't depend on the layer.
        """
        require_choice("reduce", reduce, ("sum", "none", "mask"))
        given = prepare(self.forward_func, inputs, additional_forward_args, target)
        call, site, site_layout = site_of(given, self.at)
        plan = Plan(
            Noise(
                self.statistics_for([given], baselines, attribute_to_layer_input),
                None,
                "auto",
                min_std,
            ),
            FitSettings(n_steps, n_samples, False, lr),
            seed_of(seed, "sum"),
            attribute_to_layer_input,
            layout,
            internal_batch_size,
            replay,
        )
        settings = Settings(
            self.layers[0],
            plan,
            prior,
            variant,
            replace(plan.fitting, n_steps=n_feature_steps),
            FitSettings(n_prior_steps, n_samples, True, prior_lr),
            require_weight("feature_beta", feature_beta),
            require_weight("beta", beta),
            smoothing if site_layout.kind in ("nchw", "ncdhw") else None,
            objective,
            reduce,
        )
        at_once = 1 if prior == "gan" else plan.parts(call.n)
        total = -(-call.n // at_once) * settings.steps
        with progress(total, self.get_name(), show_progress) as tick:
            maps = [
                explained_part(part, site, site_layout, settings, tick)
                for part in in_parts(call, at_once)
            ]
        return as_given([torch.cat(maps)], [given])
