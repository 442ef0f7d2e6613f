"""Layers by name, and the layers that each method takes by default, per architecture."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from torch import nn

LayerLike = nn.Module | str
NamedLayer = tuple[str, nn.Module]

FIRST_NORMS = ("norm1", "layernorm_before", "layer_norm1", "ln_1", "norm", "attention_norm")
"""Names of a transformer block's first normalisation, in the order in which they are tried."""


def resolve_layer(model: nn.Module | None, layer: LayerLike) -> NamedLayer:
    """A layer given as a module or by its dotted name, with its name.

    Raises:
        TypeError: neither a module nor a string.
        ValueError: no module of that name, or a module that is not part of the model.

    >>> model = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    >>> resolve_layer(model, "1")
    ('1', ReLU())
    """
    if isinstance(layer, nn.Module):
        return _name_of(model, layer), layer
    if not isinstance(layer, str):
        raise TypeError(f"layer must be a module or its dotted name, given {type(layer).__name__}")
    if model is None:
        raise ValueError(
            f"layer {layer!r} is given by name, but forward_func is a plain function; pass the "
            "layer as a module"
        )
    modules = dict(model.named_modules())
    if layer and layer in modules:
        return layer, modules[layer]
    near = difflib.get_close_matches(layer, [name for name in modules if name], n=5, cutoff=0.4)
    raise ValueError(
        f"the model has no layer {layer!r}; nearest names: {', '.join(near) or 'none'} "
        "(all: dict(model.named_modules()))"
    )


def _name_of(model: nn.Module | None, layer: nn.Module) -> str:
    if model is None:
        return type(layer).__name__
    for name, module in model.named_modules():
        if module is layer:
            return name or type(layer).__name__
    raise ValueError(
        f"the given layer ({type(layer).__name__}) is not part of the model "
        f"({type(model).__name__}); take it from the same instance"
    )


def blocks(model: nn.Module) -> list[NamedLayer]:
    """The main stack of an architecture: the deepest run of equal blocks, in order.

    A ViT's encoder blocks; of a Swin, ConvNeXt or ResNet the blocks of its longest stage (of two
    equally long ones the later, which is the larger).

    Raises:
        ValueError: when the model has no such stack.
    """
    best: list[NamedLayer] = []
    for name, container in model.named_modules():
        if not isinstance(container, (nn.ModuleList, nn.Sequential)):
            continue
        children = list(container.named_children())
        kinds = {type(child) for _, child in children}
        compound = all(len(list(child.children())) > 1 for _, child in children)
        if len(kinds) == 1 and compound and len(children) >= max(2, len(best)):
            best = [(f"{name}.{key}" if name else key, child) for key, child in children]
    if not best:
        raise ValueError(
            f"{type(model).__name__} has no stack of equal blocks to choose a layer from; pass "
            "layer= (a module or a dotted name)"
        )
    return best


def first_norm(block: NamedLayer) -> NamedLayer:
    """A block's first normalisation, or the block itself where it has none by a known name."""
    name, module = block
    children = dict(module.named_children())
    for candidate in FIRST_NORMS:
        if candidate in children and not isinstance(children[candidate], nn.Identity):
            return f"{name}.{candidate}", children[candidate]
    return block


def at_depth(stack: Sequence[NamedLayer], share: float) -> NamedLayer:
    """The block at index ⌊share · depth⌋: 9 of 12 at 0.75 (the papers' depth)."""
    return stack[min(len(stack) - 1, int(share * len(stack)))]


def default_layers(model: nn.Module, method: str) -> list[NamedLayer]:
    """The layers that a method takes when none are given.

    ``"iba"``: the block at half depth. ``"coiba"``: the first normalisation of the blocks in the
    last two thirds (``blocks.4…11.norm1`` of a ViT-B, Hong et al.; the blocks themselves where
    they have no such layer). ``"nib"``: the block at ⌊0.75 · depth⌋ (Zhu et al.).
    """
    stack = blocks(model)
    if method == "coiba":
        return [first_norm(block) for block in stack[len(stack) // 3 :]]
    return [at_depth(stack, {"iba": 0.5}.get(method, 0.75))]
