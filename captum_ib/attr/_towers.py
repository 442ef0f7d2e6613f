"""A pair as two single-tower problems: the other tower is a constant embedding, computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from captum_ib.attr._call import Call, prepare
from captum_ib.hooks import borrowed
from captum_ib.models.dual_encoder import DualEncoder, TowerView
from captum_ib.models.layers import LayerLike, NamedLayer, resolve_layer


def tower_layers(
    dual: DualEncoder, layers: LayerLike | Sequence[LayerLike | None] | None
) -> list[NamedLayer]:
    """One layer per tower; ``None`` (for both or one) is the block at ⌊0.75 · depth⌋.

    Raises:
        ValueError: not one per tower, or an unknown name.
    """
    if isinstance(layers, (str, nn.Module)) or (layers is not None and len(layers) != 2):
        raise ValueError(
            f"a dual encoder needs two layers, one for each of {dual.modalities[:2]} (None: the "
            f"default), given {layers!r}"
        )
    given = [None, None] if layers is None else list(layers)
    return [
        dual.default_layer(modality) if layer is None else resolve_layer(dual.model, layer)
        for modality, layer in zip(dual.modalities[:2], given, strict=True)
    ]


def pair_calls(dual: DualEncoder, inputs: Any, additional_forward_args: Any) -> list[Call]:
    """The two single-tower calls of a pair: first modality, second modality.

    Raises:
        TypeError: inputs that are no pair of tensors.
        ValueError: as in :func:`captum_ib.attr._call.prepare`.
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
