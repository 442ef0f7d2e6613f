"""A pair as two single-tower problems: the other tower is a constant embedding, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from captum_ib.forward.call import Call, prepare
from captum_ib.hooks import borrowed
from captum_ib.models.dual_encoder import DualEncoder, TowerView
from captum_ib.models.layers import CHOICES, LayerLike, NamedLayer, depths_of, resolve_layer


def tower_layers(
    dual: DualEncoder,
    layers: LayerLike | Sequence[LayerLike | None] | None,
    method: str = "m2ib",
) -> list[NamedLayer]:
    """One layer per tower; ``None`` (for both or one) is the block at ⌊0.75 · depth⌋.

    Args:
        dual: the dual encoder.
        layers: a pair, ``None`` or ``"paper"``, or ``"auto"``: the depth that did best in our
            measurements (docs/layers.md).
        method: which depth ``"auto"`` is; NIB's differs from that of the bottlenecks.

    Raises:
        ValueError: not one per tower, or an unknown name.
    """
    names = dual.modalities[:2]
    if layers is None or (isinstance(layers, str) and layers in CHOICES):
        depths = depths_of(layers or "paper")
        share = depths.pair_nib if method == "nib" else depths.pair_m2ib
        return [dual.default_layer(modality, share) for modality in names]
    if isinstance(layers, (str, nn.Module)) or len(layers) != 2:
        raise ValueError(
            f"a dual encoder needs two layers, one for each of {names} (None: the default), "
            f'"paper" or "auto", given {layers!r}'
        )
    return [
        dual.default_layer(modality) if layer is None else resolve_layer(dual.model, layer)
        for modality, layer in zip(names, layers, strict=True)
    ]


def pair_calls(dual: DualEncoder, inputs: Any, additional_forward_args: Any) -> list[Call]:
    """The two single-tower calls of a pair: first modality, second modality.

    Raises:
        TypeError: inputs that are no pair of tensors.
        ValueError: as in :func:`captum_ib.forward.call.prepare`.
    """
    if not isinstance(inputs, tuple) or len(inputs) != 2:
        given = f"a tuple of {len(inputs)}" if isinstance(inputs, tuple) else type(inputs).__name__
        raise TypeError(f"inputs must be a pair {dual.modalities[:2]} of tensors, given {given}")
    pair = prepare(dual, inputs, additional_forward_args)
    masks = dual.assign_masks(pair.additional)
    sides = list(zip(dual.modalities[:2], pair.inputs, masks, strict=True))
    with borrowed([dual]), torch.no_grad():
        embeddings = [dual.encode(name, value, mask) for name, value, mask in sides]
    return [
        Call(
            TowerView(dual, name, embeddings[1 - index]),
            (value,),
            () if mask is None else (mask,),
        )
        for index, (name, value, mask) in enumerate(sides)
    ]
