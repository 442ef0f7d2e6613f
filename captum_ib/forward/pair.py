"""A pair as two calls: a tower's embedding is the output, the other input's embedding the target.

The only module of ``forward``, ``attr`` and ``baselines`` that asks whether it was given a pair.
"""

# Inputs of a pair are checked here.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from captum_ib.checks import is_sequence, is_tuple
from captum_ib.forward.call import Call, prepare
from captum_ib.forward.layers import named_layers
from captum_ib.forward.masks import Mask
from captum_ib.forward.mistakes import look_at_masks, tensor_of
from captum_ib.forward.target import cosine
from captum_ib.hooks import borrowed
from captum_ib.models.dual_encoder import DualEncoder, TowerEmbedding, learned_scale
from captum_ib.models.layers import (
    CHOICES,
    LayerLike,
    NamedLayer,
    blocks_of,
    depths_of,
    resolve_layer,
)

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(kw_only=True)
class TowerCall(Call):
    """One side of a pair: inputs → unit embedding; the other side's embedding is the target.

    Attributes:
        other: e', the other side's embedding, ``(N, d)``, of length 1.
    """

    other: Tensor

    @property
    def embedding(self) -> TowerEmbedding:
        """The forward function, with what it knows of its tower."""
        return cast(TowerEmbedding, self.forward_func)

    @property
    def modality(self) -> str:
        """The name of the tower."""
        return self.embedding.modality

    def index(self, output: Tensor) -> None:
        """No index: an embedding has no classes."""

    def score(self, output: Tensor, probability: bool = False) -> Tensor:
        """The cosine similarity of each row's embedding to e'; there are no classes."""
        return cosine(output, self.other)

    def part(self, start: int, stop: int) -> Self:
        """The call for some of the samples."""
        return replace(super().part(start, stop), other=self.other[start:stop])


def calls_of(
    forward_func: Callable[..., Any],
    inputs: Any,
    target: Any = None,
    additional_forward_args: Any = None,
) -> list[Call]:
    """The call of a forward function, or the two of a pair.

    Raises:
        TypeError: inputs of a wrong type; for a dual encoder no pair of tensors.
        ValueError: as in :func:`~captum_ib.forward.call.prepare`; a target for a pair.
    """
    if not isinstance(forward_func, DualEncoder):
        return [prepare(forward_func, inputs, additional_forward_args, target)]
    return list(pair_calls(forward_func, inputs, additional_forward_args, target))


def pair_calls(
    dual: DualEncoder, inputs: Any, additional_forward_args: Any, target: object = None
) -> list[TowerCall]:
    """The two calls of a pair: first modality, second modality.

    Raises:
        TypeError, ValueError: as in :func:`calls_of`.
    """
    if target is not None:
        raise ValueError(
            "a pair has one output, its cosine similarity, so target must be None, given "
            f"{target!r}"
        )
    if not is_tuple(inputs) or len(inputs) != 2:
        given = f"a tuple of {len(inputs)}" if is_tuple(inputs) else type(inputs).__name__
        raise TypeError(
            f"inputs must be a pair {dual.modalities[:2]} of tensors, given {given}"
            f"{tensor_of(inputs)}"
        )
    given = additional_forward_args
    given = given if isinstance(given, tuple) else () if given is None else (given,)
    pair = prepare(dual, inputs, tuple(_as_tower_takes(mask) for mask in given))
    sides = tower_calls(dual, pair.inputs, pair.additional)
    look_at_masks(
        [dual.tower(name) for name in dual.modalities[:2]],
        pair.inputs,
        dual.assign_masks(pair.additional),
        len(pair.additional),
    )
    for mask in (value for side in sides for value in side.additional):
        if isinstance(mask, Tensor) and (mask.ndim == 0 or mask.shape[0] not in (1, pair.n)):
            raise ValueError(
                f"a mask of shape {tuple(mask.shape)} in additional_forward_args does not fit "
                f"{pair.n} pairs: it needs one row for each"
            )
    with borrowed([dual]), torch.no_grad():
        embeddings = [side.run() for side in sides]
    return [
        TowerCall(side.forward_func, side.inputs, side.additional, other=other)
        for side, other in zip(sides, reversed(embeddings), strict=True)
    ]


def reference_calls(
    forward_func: Callable[..., Any], batch: object, inputs: Callable[[object], Any]
) -> list[Call]:
    """The call of a batch of reference inputs, or the two of a batch of reference pairs.

    Args:
        forward_func: the model, a function that calls it, or a dual encoder.
        batch: for a dual encoder ``(first, second, *masks)``.
        inputs: takes the inputs out of a batch for any other model.

    Raises:
        TypeError: a batch of another kind.
    """
    if not isinstance(forward_func, DualEncoder):
        return [prepare(forward_func, inputs(batch))]
    if not is_sequence(batch) or len(batch) < 2:
        raise TypeError(
            f"reference pairs must be tuples {forward_func.modalities[:2]} with their masks behind "
            f"them, given {type(batch).__name__}"
        )
    sides = tower_calls(forward_func, batch[:2], batch[2:])
    return [prepare(side.forward_func, side.inputs, side.additional) for side in sides]


def tower_calls(
    dual: DualEncoder, inputs: Sequence[Tensor], masks: Sequence[Tensor | None]
) -> list[Call]:
    """One call per tower, without a target; the sides may differ in their number of rows."""
    assigned = dual.assign_masks([_as_tower_takes(mask) for mask in masks])
    return [
        Call(TowerEmbedding(dual, name), (value,), () if mask is None else (mask,))
        for name, value, mask in zip(dual.modalities[:2], inputs, assigned, strict=True)
    ]


def _as_tower_takes(mask: Any) -> Any:
    """A mask with 1 at the tokens that count, which is how towers read theirs."""
    if not isinstance(mask, Mask):
        return mask
    if mask.valid is None:
        raise ValueError(
            "a pair's additional arguments are masks, given Mask(…, keep=None), which is none"
        )
    return mask.valid.to(mask.tensor.dtype)


def per_call(value: Any, name: str, calls: Sequence[object]) -> list[Any]:
    """A setting for every call: the value itself, or for a pair also a sequence, one per tower.

    Raises:
        ValueError: for a pair, a sequence of another length.
    """
    if len(calls) == 1:
        return [value]
    if not is_sequence(value):
        return [value] * len(calls)
    if len(value) != len(calls):
        raise ValueError(f"{name} must be one value or one per tower, given {len(value)} values")
    return list(value)


def require_dual(forward_func: object, name: str) -> DualEncoder:
    """The dual encoder that a method of pairs was given.

    Raises:
        TypeError: another object.
    """
    if not isinstance(forward_func, DualEncoder):
        raise TypeError(
            f"{name} explains pairs: forward_func must be a DualEncoder, given "
            f"{type(forward_func).__name__}; wrap the model with DualEncoder.from_model(model)"
        )
    return forward_func


def refuse_pairs(forward_func: object, message: str) -> None:
    """Raise ``TypeError`` with this message for a dual encoder."""
    if isinstance(forward_func, DualEncoder):
        raise TypeError(message)


def logit_scale(forward_func: Callable[..., Any]) -> float:
    """What a dual encoder multiplies its cosine with; 1 for other models."""
    return learned_scale(forward_func, 1.0) if isinstance(forward_func, DualEncoder) else 1.0


def one_layer_each(
    forward_func: Callable[..., Any],
    layer: LayerLike | Sequence[LayerLike | None] | None,
    method: str,
    default: Callable[[nn.Module, Sequence[NamedLayer] | None], NamedLayer] | None = None,
) -> list[NamedLayer]:
    """One layer for a plain forward function, one per tower for a dual encoder.

    Args:
        forward_func: the model, a function that calls it, or a dual encoder.
        layer: as the user gave it.
        method: whose defaults are meant.
        default: the method's own choice in a model, or in a tower's blocks.

    Raises:
        ValueError: several layers, an unknown name, or no default.
    """
    if default is not None and isinstance(layer, str) and layer in CHOICES:
        layer = None  # a method with a choice of its own has this one only
    if isinstance(forward_func, DualEncoder):
        if layer is None and default is not None:
            towers = [forward_func.tower(name) for name in forward_func.modalities[:2]]
            return [default(tower, tower.blocks) for tower in towers]
        return tower_layers(forward_func, layer, method)
    model = forward_func if isinstance(forward_func, nn.Module) else None
    if layer is None and model is not None and default is not None:
        return [default(model, None)]
    given: Any = layer
    layers = named_layers(model, given, method)
    if len(layers) != 1:
        raise ValueError(f"{method} takes one layer, given {len(layers)}")
    return layers


def tower_layers(
    dual: DualEncoder, layers: LayerLike | Sequence[LayerLike | None] | None, method: str
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
        share = depths.pair_nib if method == "NIB" else depths.pair_m2ib
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


def blocks_per_call(
    forward_func: Callable[..., Any],
    layers: Sequence[LayerLike] | Sequence[Sequence[LayerLike]] | None,
    method: str,
) -> list[list[NamedLayer]]:
    """The blocks of a plain transformer, or those of each tower of a dual encoder.

    Args:
        forward_func: the model, a function that calls it, or a dual encoder.
        layers: as the user gave them; default: all blocks.
        method: whose they are, for error messages.

    Raises:
        ValueError: a model whose blocks do not all have the same tokens, an unknown name, no
            default, or for a dual encoder not two sequences.
    """
    given: Any = layers
    if isinstance(forward_func, DualEncoder):
        names = forward_func.modalities[:2]
        if given is None:
            return [forward_func.tower(name).blocks for name in names]
        if isinstance(given, (str, nn.Module)) or len(given) != 2:
            raise ValueError(
                f"layers must be two sequences of blocks, one for each of {names}, given {given!r}"
            )
        return [named_layers(forward_func.model, each, method) for each in given]
    model = forward_func if isinstance(forward_func, nn.Module) else None
    if given is not None or model is None:
        return [named_layers(model, given, method)]
    found = blocks_of(model)
    if found.kind != "plain":
        raise ValueError(
            f"{method} needs a plain transformer, whose blocks all have the same tokens, given "
            f"{type(model).__name__}; pass layers= with blocks that have"
        )
    return [found.blocks]
