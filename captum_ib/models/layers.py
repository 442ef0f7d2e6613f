"""Layers by name, and the layers that each method takes by default, per architecture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from captum_ib.checks import nearest
from captum_ib.models.architectures import NamedLayer, Stages, norm_name, stages
from captum_ib.models.view import ModelView

LayerLike = nn.Module | str


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
    modules = dict(model.named_modules(remove_duplicate=False))  # tied layers have several names
    if layer and layer in modules:
        return layer, modules[layer]
    within = [name for name in modules if name.endswith(f".{layer}")][:5]  # in a wrapper
    names = [*CHOICES, *(name for name in modules if name)]
    near = ", ".join(within) or nearest(layer, names, 5)
    raise ValueError(
        f"the model has no layer {layer!r}; nearest names: {near} "
        "(all: dict(model.named_modules()), in the shell `captum-ib layers`)"
    )


def _name_of(model: nn.Module | None, layer: nn.Module) -> str:
    if model is None:
        return type(layer).__name__
    for name, module in model.named_modules():
        if module is layer:
            return name or type(layer).__name__
    raise ValueError(
        f"the given layer ({type(layer).__name__}) is not part of the model "
        f"({type(model).__name__}); take it from the same instance, or, where the model calls it "
        "without having it as a submodule, pass forward_func=lambda *args: model(*args)"
    )


def blocks(model: nn.Module) -> list[NamedLayer]:
    """The blocks of a model in order, over all its stages (:mod:`captum_ib.models.architectures`).

    Raises:
        ValueError: when the model has no such blocks, or several stacks of them.
    """
    return blocks_of(model).blocks


def blocks_of(model: nn.Module) -> Stages:
    """The blocks of a model, as a wrapper names them, else as its architecture has them."""
    if isinstance(model, ModelView):
        named = model.blocks()
        return Stages([named], "plain", norm_name(named[0][1]))
    return stages(model)


def at_depth(stack: Sequence[NamedLayer], share: float) -> NamedLayer:
    """The block at index ⌊share · depth⌋: 9 of 12 at 0.75 (the papers' depth)."""
    return stack[min(len(stack) - 1, int(share * len(stack)))]


@dataclass(frozen=True)
class Depths:
    """Relative depths at which the methods look, in a stack of n blocks.

    Attributes:
        iba, nib: one block, ⌊share · n⌋.
        coiba: all blocks from ⌊share · n⌋ on.
        pair_m2ib, pair_nib: one block of each tower of a dual encoder.
    """

    iba: float
    nib: float
    coiba: float
    pair_m2ib: float
    pair_nib: float


CHOICES = {
    "paper": Depths(iba=1 / 2, nib=3 / 4, coiba=1 / 3, pair_m2ib=3 / 4, pair_nib=3 / 4),
    "auto": Depths(iba=1 / 4, nib=1 / 2, coiba=0, pair_m2ib=1 / 4, pair_nib=1 / 2),
}
"""``"paper"``: what the papers chose by hand. ``"auto"``: what did best in docs/layers.md."""


def depths_of(choice: str) -> Depths:
    """The depths of a choice.

    Raises:
        ValueError: another choice than those of :data:`CHOICES`.
    """
    if choice not in CHOICES:
        raise ValueError(f"unknown choice of layers {choice!r}, expected one of {list(CHOICES)}")
    return CHOICES[choice]


def second_half(found: Stages) -> list[NamedLayer]:
    """The blocks of the second half of the stages; of a single stage its second half."""
    if len(found.stages) == 1:
        return found.blocks[len(found.blocks) // 2 :]
    return [block for stage in found.stages[len(found.stages) // 2 :] for block in stage]


def default_layers(model: nn.Module, method: str, choice: str = "paper") -> list[NamedLayer]:
    """The layers that a method takes by itself.

    ``choice="paper"``, the default of all methods:

    - ``"coiba"`` (Hong et al.): in a plain transformer the first normalisation of the blocks in
      the last two thirds (ViT-B: ``blocks.4…11.norm1``); in a staged one (Swin) of all blocks of
      the deepest-but-one stage; in a CNN the blocks of the second half of the stages
      (ResNet: ``layer3`` and ``layer4``). Blocks that normalise last are taken whole.
    - ``"iba"`` (Schulz et al.): the block at half depth; in a CNN the last block of the stage at
      half depth (ResNet-50: ``layer2.3``, conv3_4 of the paper).
    - ``"nib"`` (Zhu et al.): the block at ⌊0.75 · depth⌋; where blocks take a list (DenseNet) the
      dense block around it.

    ``choice="auto"`` takes the depths of :data:`CHOICES` that did best in our measurements
    (docs/layers.md) in plain transformers, and the papers' layers elsewhere. It costs nothing and
    sees no data: :func:`captum_ib.rank_layers` compares layers on your own samples.

    Raises:
        ValueError: when the model has no stack of blocks, or several; an unknown choice.
    """
    found = blocks_of(model)
    depths = depths_of(choice)
    if method == "coiba":
        if found.kind == "convolutional":
            chosen = second_half(found)
        elif found.kind == "staged":
            chosen = found.main
        else:
            chosen = found.blocks[int(depths.coiba * len(found.blocks)) :]
        return [found.site(block) for block in chosen]
    if found.kind != "plain":
        depths = CHOICES["paper"]
    if method == "iba" and found.kind == "convolutional" and len(found.stages) > 1:
        return [found.stages[(len(found.stages) - 1) // 2][-1]]
    if method == "iba":
        return [at_depth(found.blocks, depths.iba)]
    return [_with_one_input(model, at_depth(found.blocks, depths.nib))]


def _with_one_input(model: nn.Module, block: NamedLayer) -> NamedLayer:
    """A block, or what it is part of where it takes a list of all outputs before it (DenseNet)."""
    parent, _, _ = block[0].rpartition(".")
    if not parent:
        return block
    around = model.get_submodule(parent)
    # A ModuleDict has no forward, unless it is one that hands its entries what they take.
    dense = isinstance(around, nn.ModuleDict) and type(around).forward is not nn.Module.forward
    return (parent, around) if dense else block
