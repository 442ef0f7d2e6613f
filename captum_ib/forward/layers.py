"""Layers of a call: by name, with their axes, and statistics of what they give."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ib.axis import Axes
from captum_ib.bottleneck import ActivationStatistics
from captum_ib.forward.admit import require_hookable, warn_unsteady, watched_draws
from captum_ib.forward.call import Call
from captum_ib.hooks import (
    CompositeHook,
    Session,
    borrowed,
    open_session,
    roots,
    samples_axis_of,
)
from captum_ib.layout import TokenLayout
from captum_ib.models.dual_encoder import TowerEmbedding
from captum_ib.models.layers import CHOICES, LayerLike, NamedLayer, default_layers, resolve_layer
from captum_ib.models.view import ModelView


def named_layers(
    model: nn.Module | None, layers: LayerLike | Sequence[LayerLike] | None, method: str
) -> list[NamedLayer]:
    """Given layers, or a method's own (``"paper"``, the default, or ``"auto"``), with their names.

    Raises:
        ValueError: no layer, the same one twice, an unknown name, or no default.
    """
    if layers is not None and not isinstance(cast(object, layers), (nn.Module, str, Iterable)):
        raise TypeError(
            "layers must be a module, its dotted name, a sequence of these, or one of "
            f"{list(CHOICES)}, given {type(layers).__name__}"
        )
    if layers is None or (isinstance(layers, str) and layers in CHOICES):
        if model is None:
            raise ValueError(
                "forward_func is a plain function, so there is no model to choose a default "
                "layer from; pass the layer as a module"
            )
        return default_layers(model, method.lower(), layers or "paper")
    given = [layers] if isinstance(layers, (nn.Module, str)) else list(layers)
    if not given:
        raise ValueError("given an empty sequence of layers, expected at least one")
    named = [resolve_layer(model, layer) for layer in given]
    if len({id(module) for _, module in named}) < len(named):
        raise ValueError(f"a layer is given twice: {[name for name, _ in named]}")
    require_hookable(named)
    return named


def layout_of(
    call: Call,
    layer: nn.Module,
    activation: Tensor,
    name: str,
    layout: TokenLayout | None = None,
    axes: Axes = (),
) -> TokenLayout:
    """The axes of a layer's activation: as given, as the forward function knows them, as the
    operations of a pass show, or as the model states.

    Raises:
        ValueError: no sample axis, a layout that does not fit, or one that can't be told.
    """
    if activation.shape[0] != call.n:
        raise ValueError(
            f"the activation of layer {name} has shape {tuple(activation.shape)}, without "
            f"the {call.n} samples on axis 0; {_without_samples(activation, call.n)}"
        )
    if layout is not None:
        layout.check(activation, name)
        layout.check_against(axes, name)
        return layout
    forward = call.forward_func
    if isinstance(forward, ModelView) and forward.knows_layouts:
        return forward.layout(layer, activation, call.inputs, name)
    model = forward if isinstance(forward, nn.Module) else None
    return TokenLayout.infer(model, layer, activation, call.inputs, name, axes)


def _without_samples(activation: Tensor, n: int) -> str:
    """What to do about an activation whose axis 0 does not hold the samples."""
    advice = (
        "windows, or patches with positions inside, are folded into the batch: choose another "
        "layer, for example the whole block; where the model folds crops or frames into the "
        "batch, pass these as the samples"
    )
    if activation.ndim == 3 and activation.shape[1] == n:
        return (
            "where the layer takes the sequence first, (T, N, C), set samples_axis=1 on the Tower, "
            f"or as an attribute of forward_func; else {advice}"
        )
    return advice


@contextmanager
def session_of(
    call: Call, layers: Sequence[NamedLayer], to_input: bool = False, replay: bool = True
) -> Generator[Session]:
    """A borrowed model for passes of a call with hooks on some layers."""
    names, modules = zip(*layers, strict=True)
    call.decide()
    with ExitStack() as stack:
        with watched_draws(call) as drawn:
            session = stack.enter_context(
                open_session(call.forward_func, call.run, modules, names, call.n, to_input, replay)
            )
        warn_unsteady(call, session, drawn[0])
        yield session


def session_layouts(
    call: Call, session: Session, layout: TokenLayout | Sequence[TokenLayout] | None
) -> list[TokenLayout]:
    """The axes of every layer of a session: one layout for all, one for each, or inferred."""
    n = len(session.layers)
    if layout is not None and not isinstance(layout, TokenLayout) and len(layout) != n:
        raise ValueError(f"given {len(layout)} layouts for {n} layers")
    given = [layout] * n if layout is None or isinstance(layout, TokenLayout) else layout
    parts = zip(
        session.layers, session.activations, session.names, given, session.axes, strict=True
    )
    return [
        layout_of(call, layer, R, name, one, session.tracker.settled(axes))
        for layer, R, name, one, axes in parts
    ]


def sequence_mask(call: Call, activation: Tensor, layout: TokenLayout) -> Tensor | None:
    """Valid tokens ``(N, T)`` of a sequence layer; ``None``: all, or no sequence.

    Masks say nothing of the layout's prefix and suffix, tokens of the model's own: all count.
    """
    if layout.kind != "sequence":
        return None
    tokens = int(activation.shape[1])
    if isinstance(call.forward_func, TowerEmbedding):  # a tower's mask may count its own, too
        every = call.valid_tokens(tokens)
        if every is not None:
            return every
    own = call.valid_tokens(tokens - layout.prefix - layout.suffix)
    return None if own is None else F.pad(own, (layout.prefix, layout.suffix), value=True)


def activations(
    call: Call, layers: Sequence[NamedLayer], to_input: bool = False
) -> dict[str, Tensor]:
    """What the layers give (or take) in one pass without gradients, by name, ``(N, …)``."""
    names, modules = zip(*layers, strict=True)
    found: dict[str, Tensor] = {}

    def keep(index: int, activation: Tensor) -> None:
        found[names[index]] = activation.detach().clone()  # layers behind may write it

    axis = samples_axis_of(call.forward_func)
    hook = CompositeHook(modules, keep, to_input, names, axis)
    every = [*roots(call.forward_func, call.run), *modules]
    with borrowed(every), torch.no_grad(), hook, hook.one_pass():
        call.run()
    return found


def estimate(
    calls: Iterable[Call], layers: Sequence[NamedLayer], to_input: bool = False
) -> ActivationStatistics:
    """Statistics of some layers over the samples of the calls."""
    statistics = ActivationStatistics()
    for call in calls:
        for name, activation in activations(call, layers, to_input).items():
            mask = call.valid_tokens(activation.shape[1]) if activation.ndim == 3 else None
            statistics.update(name, activation, mask)
    return statistics
