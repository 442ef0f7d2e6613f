"""What the methods at one layer share: the default layer, its activation, gradient and layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import LayerAttribution
from torch import Tensor, nn

from captum_ib.baselines._samples import explained
from captum_ib.checks import BatchSize, require_finite
from captum_ib.forward import (
    Call,
    Named,
    calls_of,
    layout_of,
    one_layer_each,
    sequence_mask,
)
from captum_ib.hooks import (
    AxisTracker,
    CompositeHook,
    borrowed,
    require_path,
    roots,
    samples_axis_of,
)
from captum_ib.layout import TokenLayout
from captum_ib.models.architectures import first_norm
from captum_ib.models.layers import LayerLike, NamedLayer, blocks_of


class OneLayer(Named, LayerAttribution):
    """Base of the methods that explain one layer, and one per tower of a pair.

    Args:
        forward_func: the model, a function that calls it, or a
            :class:`~captum_ib.models.dual_encoder.DualEncoder`.
        layer: module or dotted name; for a ``DualEncoder`` one per tower. Default: the last place
            where all positions still reach the output: the first normalisation of a transformer's
            last block (the last block but one, where blocks normalise last); a CNN's last block.

    Attributes:
        layers: the layer (of each tower) as ``(name, module)``.
    """

    normalised = True
    """Whether the default is a normalisation, or the tokens ahead of it."""

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: LayerLike | Sequence[LayerLike] | None = None,
    ) -> None:
        self.layers = one_layer_each(forward_func, layer, self.get_name(), self._default)
        super().__init__(forward_func, self.layers[0][1])

    def explain_layers(
        self,
        inputs: Any,
        target: Any,
        additional_forward_args: Any,
        explain: Callable[..., Tensor],
        internal_batch_size: BatchSize = None,
        **settings: Any,
    ) -> Any:
        """``explain`` (some of the samples, the layer, setting, …) for all samples, both towers."""
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)
        layers = self.layers if len(calls) > 1 else self.layers[0]
        return explained(calls, explain, internal_batch_size, layer=layers, **settings)

    def _default(self, model: nn.Module, blocks: Sequence[NamedLayer] | None) -> NamedLayer:
        """The layer in a model, or in the blocks of a tower."""
        if blocks is None:
            return _model_site(model, self.normalised)
        return _tower_site(blocks, self.normalised)


def _model_site(model: nn.Module, normalised: bool) -> NamedLayer:
    found = blocks_of(model)
    last = found.blocks[-1]
    if found.kind == "convolutional" or (found.kind == "staged" and not normalised):
        return last
    site = found.site(last) if normalised else last
    whole_plain = site is last and found.kind == "plain"
    return found.blocks[max(0, len(found.blocks) - 2)] if whole_plain else site


def _tower_site(stack: Sequence[NamedLayer], normalised: bool) -> NamedLayer:
    site = first_norm(stack[-1]) if normalised else stack[-1]
    return stack[max(0, len(stack) - 2)] if site is stack[-1] else site


@dataclass(frozen=True)
class LayerState:
    """A layer during one pass.

    Attributes:
        activation: ``(N, …)``, detached.
        gradient: of the output with respect to it, float32; empty when none was asked for.
        layout: its axes.
        valid: valid tokens ``(N, T)`` of a sequence, or ``None``: all.
    """

    activation: Tensor
    gradient: Tensor
    layout: TokenLayout
    valid: Tensor | None

    def positions(self, values: Tensor) -> Tensor:
        """Layer-shaped values → ``(N, P, C)``, float32, without prefix and suffix tokens."""
        return self._inner(self.layout.tokens(values).float())

    def counted(self) -> Tensor:
        """Which positions count, ``(N or 1, P, 1)``."""
        if self.valid is not None:
            return self._inner(self.valid.float().unsqueeze(-1))
        shape = self.positions(self.activation).shape
        return torch.ones(1, shape[1], 1, device=self.activation.device, dtype=torch.float32)

    def map(self, values: Tensor) -> Tensor:
        """Values per position ``(N, P)`` → ``(N, 1, h, w)``, of a volume ``(N, 1, d, h, w)``, or,
        padding 0, ``(N, T)``."""
        whole = nn.functional.pad(values, (self.layout.prefix, self.layout.suffix))
        if self.valid is not None:
            whole = whole * self.valid
        sides = self.layout.sides(self.activation)
        return self.layout.attribution(self.layout.arrange(whole.unsqueeze(-1), sides))

    def _inner(self, tokens: Tensor) -> Tensor:
        return tokens[:, self.layout.prefix : tokens.shape[1] - self.layout.suffix]


def layer_state(
    call: Call,
    layer: NamedLayer,
    layout: TokenLayout | None,
    *,
    gradient: bool = False,
    to_input: bool = False,
) -> LayerState:
    """Run the model once and look at a layer.

    Args:
        call: the samples.
        layer: the layer.
        layout: its axes, where they can't be inferred.
        gradient: whether to take that of the explained value.
        to_input: the layer's input instead of its output.

    Raises:
        ValueError: NaN in the activation, a layout that does not fit or can't be told.
        RuntimeError: the layer does not run exactly once, or the output does not depend on it.
    """
    name, module = layer
    found: list[Tensor] = []
    passed: list[Tensor] = []

    def see(_: int, activation: Tensor) -> Tensor:
        # Not a leaf: models may add to a layer's output in place.
        found.append(activation.detach().clone().requires_grad_(gradient))
        passed.append(found[0].clone())
        return passed[0]

    tracker = AxisTracker()
    hook = CompositeHook([module], see, to_input, [name], samples_axis_of(call.forward_func))
    with borrowed([*roots(call.forward_func, call.run), module]):
        with torch.set_grad_enabled(gradient), hook, hook.one_pass(), tracker:
            output = call.run()
        (activation,) = found
        require_finite(activation, f"the activation of layer {name}")
        axes = tracker.settled(tracker.of(passed[0]))
        known = layout_of(call, module, activation, name, layout, axes)
        slope = _slope(call, output, activation, passed[0], name) if gradient else torch.empty(0)
    activation = activation.detach()
    return LayerState(activation, slope, known, sequence_mask(call, activation, known))


def _slope(call: Call, output: Tensor, activation: Tensor, passed: Tensor, name: str) -> Tensor:
    require_path(output, [passed], [name])
    return torch.autograd.grad(call.score(output).sum(), activation)[0].float()
