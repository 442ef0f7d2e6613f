"""What a model says of itself: sizes of pictures and patches, grids, prefix tokens."""

# What a model says of itself has no type.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


def patch_grid(model: nn.Module, patches: int, image: Tensor) -> tuple[int, int] | None:
    """Rows and columns of an image's patches, by the model's patch size; ``None``: can't tell."""
    return grid_of_patches(model, patches, (int(image.shape[-2]), int(image.shape[-1])))


def grid_of_patches(
    model: nn.Module, patches: int, image: tuple[int, int]
) -> tuple[int, int] | None:
    """Rows and columns of so many patches of an image ``(H, W)``, or ``None``."""
    for patch in patch_sizes(model):
        for rows, columns in _grids(image, patch):
            if rows * columns == patches:
                return rows, columns
    return None


def _grids(image: tuple[int, int], patch: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Grids of an image's patches: whole patches, a padded border, then merged 2×2 and so on."""
    for reduction in (1, 2, 4, 8, 16):
        size = (patch[0] * reduction, patch[1] * reduction)
        floor = (image[0] // size[0], image[1] // size[1])
        if min(floor) >= 1:
            yield floor
        yield -(-image[0] // size[0]), -(-image[1] // size[1])


def declared_prefixes(model: nn.Module) -> Iterator[int]:
    """How many leading tokens the model says it has: timm's attribute, transformers' config."""
    for module in model.modules():
        prefix = getattr(module, "num_prefix_tokens", None)
        if isinstance(prefix, int):
            yield prefix
        registers = getattr(getattr(module, "config", None), "num_register_tokens", None)
        if isinstance(registers, int):
            yield registers + 1
        for attribute, count in (("class_token", 1), ("cls_token", 1), ("class_embedding", 1)):
            if isinstance(getattr(module, attribute, None), Tensor):
                yield count + int(isinstance(getattr(module, "distillation_token", None), Tensor))


def patch_sizes(model: nn.Module) -> Iterator[tuple[int, int]]:
    """The patch sizes that the model and its configurations state."""
    for module in model.modules():
        for holder in (module, getattr(module, "config", None)):
            patch = getattr(holder, "patch_size", None)
            if isinstance(patch, int):
                yield patch, patch
            elif isinstance(patch, (tuple, list)) and len(patch) == 2:
                yield int(patch[0]), int(patch[1])


def size_of(model: nn.Module) -> tuple[int, int] | None:
    """Height and width of the pictures that a model says it takes."""
    patches: Any = getattr(model, "patch_embed", None)
    config: Any = getattr(model, "config", None)
    said = getattr(patches, "img_size", None) or getattr(config, "image_size", None)
    if isinstance(said, int):
        return said, said
    if isinstance(said, (tuple, list, torch.Size)) and len(said) == 2:
        return int(said[0]), int(said[1])
    return None
