"""One tower of a dual encoder: inputs of one modality → embeddings in the joint space."""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor, nn

from captum_ib.models.layers import NamedLayer
from captum_ib.layout import TokenLayout

Embed = Callable[[Any, Tensor | None], Tensor]
"""(inputs, mask) → embeddings; the mask is ``None`` for modalities without padding."""

InferLayout = Callable[[nn.Module, Tensor, tuple[Tensor, ...], str], TokenLayout]
"""(layer, activation, inputs, name) → layout."""


@dataclass
class Tower:
    """What a dual encoder needs to know of one modality. A model family gives one per modality.

    Attributes:
        name: the modality: ``"image"``, ``"text"``, ``"audio"``, …
        module: the encoder, to infer layouts from.
        pooled: (inputs, mask) → ``(N, d)`` in the joint space, not yet normalised.
        tokens: (inputs, mask) → ``(N, T, d)``: the last layer's tokens through the same head.
        blocks: the main stack, in order, with names within the model.
        takes_mask: whether the modality has padding.
        token_mask: (inputs, mask) → valid tokens ``(N, T)``, or ``None`` when all are.
        infer_layout: layout of a layer's activation; default: from the encoder.
        samples_axis: 1 where the blocks take the sequence first, ``(T, N, C)``, as ImageBind's and
            OpenAI's own CLIP do; layouts and attributions have the samples first all the same.
    """

    name: str
    module: nn.Module
    pooled: Embed
    tokens: Embed
    blocks: Sequence[NamedLayer]
    takes_mask: bool = False
    token_mask: Callable[[Tensor, Tensor | None], Tensor | None] = lambda inputs, mask: mask
    infer_layout: InferLayout | None = field(default=None)
    samples_axis: int = 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Tower:
        """A copy for the copied model: its functions refer to the copy, not to the original.

        ``copy.deepcopy`` leaves functions as they are, so a copied dual encoder would go on
        computing with the first one's weights.
        """
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return Tower(**{name: _copied(value, memo) for name, value in values.items()})

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        """The layout of one of the tower's layers."""
        if self.infer_layout is not None:
            return self.infer_layout(layer, activation, inputs, name)
        return TokenLayout.infer(self.module, layer, activation, inputs, name)


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """A deep copy; of a function, one whose closure holds deep copies."""
    if not isinstance(value, types.FunctionType) or value.__closure__ is None:
        return copy.deepcopy(value, memo)
    if id(value) not in memo:
        cells = [types.CellType(_copied(cell.cell_contents, memo)) for cell in value.__closure__]
        function = types.FunctionType(
            value.__code__, value.__globals__, value.__name__, value.__defaults__, tuple(cells)
        )
        function.__kwdefaults__ = value.__kwdefaults__
        memo[id(value)] = function
    return memo[id(value)]


def image_tower(
    encoder: Any,
    blocks: Sequence[NamedLayer],
    pooled: Callable[[Any], Tensor],
    tokens: Callable[[Any], Tensor],
) -> Tower:
    """The tower of a transformers vision encoder.

    Args:
        encoder: called with ``pixel_values``; for images of another size than the configured one
            its positions are interpolated, where this version of transformers can do so.
        blocks: see :class:`Tower`.
        pooled, tokens: the encoder's output → embeddings in the joint space.
    """

    def run(pixel_values: Tensor) -> Any:
        size = encoder.config.image_size
        expected = (size, size) if isinstance(size, int) else tuple(size)
        offered = "interpolate_pos_encoding" in inspect.signature(encoder.forward).parameters
        if tuple(pixel_values.shape[-2:]) == expected or not offered:
            return encoder(pixel_values=pixel_values)
        return encoder(pixel_values=pixel_values, interpolate_pos_encoding=True)

    return Tower(
        "image",
        encoder,
        lambda pixels, mask: pooled(run(pixels)),
        lambda pixels, mask: tokens(run(pixels)),
        blocks,
    )


def text_tower(
    encoder: Any,
    blocks: Sequence[NamedLayer],
    pooled: Callable[[Any], Tensor],
    tokens: Callable[[Any], Tensor],
    token_mask: Callable[[Tensor, Tensor | None], Tensor | None] | None = None,
) -> Tower:
    """The tower of a transformers text encoder, called with ``input_ids`` and ``attention_mask``.

    Args:
        encoder, blocks, pooled, tokens: as for :func:`image_tower`.
        token_mask: see :class:`Tower`; default: the attention mask, where one is given.
    """

    def run(input_ids: Tensor, mask: Tensor | None) -> Any:
        return encoder(input_ids=input_ids, attention_mask=mask)

    return Tower(
        "text",
        encoder,
        lambda ids, mask: pooled(run(ids, mask)),
        lambda ids, mask: tokens(run(ids, mask)),
        blocks,
        takes_mask=True,
        token_mask=token_mask or (lambda ids, mask: None if mask is None else mask.bool()),
    )


def named_blocks(model: nn.Module, *prefixes: str) -> list[NamedLayer]:
    """The children of the ``ModuleList`` at a dotted name, with their names.

    Args:
        model: the model.
        prefixes: where the list is; the first name that exists counts (libraries rename them).

    Raises:
        ValueError: none of them exists.

    >>> model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 1)])})
    >>> [name for name, _ in named_blocks(model, "layer", "layers")]
    ['layers.0', 'layers.1']
    """
    modules = dict(model.named_modules())
    for prefix in prefixes:
        if prefix in modules:
            children = modules[prefix].named_children()
            return [(f"{prefix}.{key}", block) for key, block in children]
    raise ValueError(
        f"{type(model).__name__} has its blocks at none of {', '.join(prefixes)}; build "
        "DualEncoder(model, towers) with the blocks of this version of the model"
    )
