"""What modules say about the axes of their activations: channels, patches, prefix tokens."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn


def channels_second(layer: nn.Module, shape: tuple[int, int]) -> bool:
    """Whether a 3-D activation has its channels before its positions, as behind a ``Conv1d``."""
    for part in layer.modules():
        if isinstance(part, nn.Conv1d) and part.out_channels == shape[0]:
            return True
        # LeViT normalises flattened tokens: their channels are still last.
        if isinstance(part, nn.BatchNorm1d) and part.num_features == shape[0] != shape[1]:
            return True
    return False


def channel_order(module: nn.Module, shape: tuple[int, ...]) -> str | None:
    """``"nchw"`` or ``"nhwc"`` of a 4-D activation, from the channels its modules produce."""
    first: list[bool] = []
    for width, channels_first in _widths(module):
        if shape[1] == width and shape[3] != width:
            return "nchw"
        if shape[3] == width and shape[1] != width:
            return "nhwc"
        if shape[1] == shape[3] == width:
            first.append(channels_first)
    if first and all(flag == first[0] for flag in first):
        return "nchw" if first[0] else "nhwc"
    if not first and shape[2] == shape[3] != shape[1]:
        return "nchw"
    if not first and shape[1] == shape[2] != shape[3]:
        return "nhwc"
    return None


def _widths(module: nn.Module) -> Iterator[tuple[int, bool]]:
    """Output widths of the modules inside, last first, and whether they come first there."""
    for part in reversed(list(module.modules())):
        if isinstance(part, nn.Conv2d):
            yield part.out_channels, True
        elif isinstance(part, (nn.BatchNorm2d, nn.GroupNorm)):
            yield part.num_features if isinstance(part, nn.BatchNorm2d) else part.num_channels, True
        elif isinstance(part, nn.LayerNorm) and len(part.normalized_shape) == 1:
            yield part.normalized_shape[0], type(part).__name__.endswith("2d")
        elif isinstance(part, nn.Linear):
            yield part.out_features, False


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
