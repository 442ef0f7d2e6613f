"""Where the pictures of a vision-language model lie among its tokens: tiles, merged patches, rows.

Nothing is guessed from the number of tokens: the grid of a picture is what the model's
configuration, the processor's ``image_grid_thw`` or ``image_sizes``, and the tiles' own size say.
Where they say nothing, or something that does not fit the tokens, the tokens stay a sequence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.evidence import patch_grid

Run = tuple[int, int]
"""Start and stop of neighbouring tokens."""


@dataclass(frozen=True)
class PictureTokens:
    """The tokens of one picture, tile or frame.

    Attributes:
        start: place of the first in the whole sequence.
        stop: behind the last.
        grid: rows and columns; ``None``: not known.
        row_ends: whether a token that is no patch ends each row.
    """

    start: int
    stop: int
    grid: tuple[int, int] | None = None
    row_ends: bool = False

    def of(self, values: Tensor) -> Tensor:
        """The picture's part of values ``(N, T)``: ``(N, 1, h, w)``, or ``(N, t)`` without grid."""
        own = values[:, self.start : self.stop]
        if self.grid is None:
            return own
        rows, columns = self.grid
        lines = own.unflatten(1, (rows, columns + int(self.row_ends)))
        return lines[..., :columns].unsqueeze(1)


def runs_of(marks: Tensor) -> list[Run]:
    """The runs of neighbouring places that are marked, ``(T,)`` of bool.

    >>> runs_of(torch.tensor([False, True, True, False, True]))
    [(1, 3), (4, 5)]
    """
    edges = torch.diff(torch.nn.functional.pad(marks.int(), (1, 1)))
    starts, stops = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def pictures_of(
    model: Any, vision: nn.Module, runs: Sequence[Run], pixels: Tensor, extra: Mapping[str, Any]
) -> list[PictureTokens]:
    """The pictures in the order of their tokens.

    Args:
        model: the vision-language model.
        vision: its vision tower.
        runs: of image tokens in the prompt.
        pixels: what the model is called with.
        extra: further arguments of the model.
    """
    config = getattr(model, "config", None)
    shapes = _ANYRES.get(getattr(config, "model_type", ""), _tiles)
    if isinstance(extra.get("image_grid_thw"), Tensor):
        shapes = _merged
    grids = list(shapes(config, vision, runs, pixels, extra))
    found = _placed(runs, grids)
    return found if found is not None else [PictureTokens(*run) for run in runs]


@dataclass(frozen=True)
class _Shape:
    rows: int
    columns: int
    row_ends: bool = False

    @property
    def tokens(self) -> int:
        return self.rows * (self.columns + int(self.row_ends))


def _placed(runs: Sequence[Run], shapes: Sequence[_Shape]) -> list[PictureTokens] | None:
    """The shapes put into the runs one behind the other; ``None`` where they don't fill them."""
    found: list[PictureTokens] = []
    left = list(shapes)
    for start, stop in runs:
        while start < stop:
            if not left or start + left[0].tokens > stop:
                return None
            one = left.pop(0)
            found.append(
                PictureTokens(start, start + one.tokens, (one.rows, one.columns), one.row_ends)
            )
            start += one.tokens
    return None if left else found


Shapes = Callable[[Any, nn.Module, Sequence[Run], Tensor, Mapping[str, Any]], Iterator[_Shape]]


def _merged(
    config: Any, vision: nn.Module, runs: Sequence[Run], pixels: Tensor, extra: Mapping[str, Any]
) -> Iterator[_Shape]:
    """Qwen: (frames, rows, columns) of patches per picture, of which squares are merged."""
    merge = int(getattr(getattr(config, "vision_config", None), "spatial_merge_size", 1))
    for frames, rows, columns in extra["image_grid_thw"].tolist():
        yield from [_Shape(rows // merge, columns // merge)] * frames


def _tiles(
    config: Any, vision: nn.Module, runs: Sequence[Run], pixels: Tensor, extra: Mapping[str, Any]
) -> Iterator[_Shape]:
    """Pictures or tiles of one size, each with as many tokens."""
    shape = _tile(config, vision, runs, pixels)
    if shape is not None:
        total = sum(stop - start for start, stop in runs)
        yield from [shape] * (total // shape.tokens)


def _tile(config: Any, vision: nn.Module, runs: Sequence[Run], pixels: Tensor) -> _Shape | None:
    states = getattr(config, "vision_config", None)
    pooled = getattr(config, "mm_tokens_per_image", None)  # Gemma 3: a square, pooled
    if isinstance(pooled, int):
        return _Shape(math.isqrt(pooled), math.isqrt(pooled))
    patch = _side(getattr(states, "patch_size", None))
    height, width = int(pixels.shape[-2]), int(pixels.shape[-1])
    shuffled = getattr(config, "scale_factor", None)  # Idefics 3: squares of patches as channels
    if isinstance(shuffled, int) and patch:
        step = patch * shuffled
        return _Shape(height // step, width // step)
    ratio = getattr(config, "downsample_ratio", None)  # InternVL: the same, as a ratio
    if isinstance(ratio, float) and patch:
        return _Shape(round(height // patch * ratio), round(width // patch * ratio))
    grid = patch_grid(vision, runs[0][1] - runs[0][0], pixels) if pixels.ndim > 3 else None
    return None if grid is None else _Shape(*grid)


def _anyres(
    config: Any, vision: nn.Module, runs: Sequence[Run], pixels: Tensor, extra: Mapping[str, Any]
) -> Iterator[_Shape]:
    """LLaVA-NeXT and OneVision: the whole picture small, then its tiles joined, rows ended."""
    from transformers.models.llava_next import modeling_llava_next as joined

    sizes = extra.get("image_sizes")
    patch = _side(config.vision_config.patch_size)
    if not isinstance(sizes, Tensor) or not patch:
        return
    tile = int(config.vision_config.image_size)
    side = tile // patch
    for size in sizes.tolist():
        yield _Shape(side, side)
        tiles = joined.get_anyres_image_grid_shape(tuple(size), config.image_grid_pinpoints, tile)
        whole = torch.zeros(1, int(tiles[0]) * side, int(tiles[1]) * side)
        rows, columns = joined.unpad_image(whole, tuple(size)).shape[1:]
        most = str(getattr(config, "vision_aspect_ratio", "")).rpartition("_")[2]
        if most.isdecimal():  # OneVision: no more than so many tiles' tokens
            ratio = math.sqrt(rows * columns / (int(most) * side**2))
            rows, columns = (
                (int(rows // ratio), int(columns // ratio)) if ratio > 1.1 else (rows, columns)
            )
        yield _Shape(int(rows), int(columns), row_ends=True)


_ANYRES: dict[str, Shapes] = {"llava_next": _anyres, "llava_onevision": _anyres}
WHOLE = frozenset(_ANYRES)
"""``model_type`` of models that read a picture small, and its tiles joined: both are all of it."""


def _side(size: Any) -> int | None:
    """A side in pixels from a number, or from two equal ones."""
    if isinstance(size, (list, tuple)) and len(set(size)) == 1:
        size = size[0]
    return size if isinstance(size, int) else None


def over_picture(parts: Sequence[Tensor], tiles: tuple[int, int] | None = None) -> Tensor | None:
    """One map of a picture that a model reads in several pieces; sums are kept.

    Each piece but the tiles covers the whole picture (:data:`WHOLE` says of which families). A
    coarse cell's value is spread evenly over the finer cells below it.

    Args:
        parts: maps ``(N, 1, h, w)``; the tiles first, row by row.
        tiles: rows and columns of the tiles; default: there are none.

    Returns:
        ``(N, 1, H, W)`` with the finest grid's sides; ``None`` where a part has no grid.

    >>> small, large = torch.full((1, 1, 1, 1), 8.0), torch.ones(1, 1, 2, 2)
    >>> over_picture([small, large])[0, 0].tolist()
    [[3.0, 3.0], [3.0, 3.0]]
    """
    whole = list(parts)
    if any(part.ndim != 4 for part in parts):
        return None
    if tiles is not None:
        count, columns = tiles[0] * tiles[1], tiles[1]
        lines = [torch.cat(whole[i : i + columns], dim=3) for i in range(0, count, columns)]
        whole = [torch.cat(lines, dim=2), *whole[count:]]
    finest = max(whole, key=lambda part: part[0].numel())
    return torch.stack([_spread(part, finest.shape[-2:]) for part in whole]).sum(dim=0)


def _spread(values: Tensor, sides: Sequence[int]) -> Tensor:
    """Values ``(N, 1, h, w)`` on a grid of other sides, by the area that cells have in common."""
    for axis, side in zip((2, 3), sides, strict=True):
        own = values.shape[axis]
        fine = values.repeat_interleave(side, dim=axis) / side
        values = fine.unflatten(axis, (side, own)).sum(dim=axis + 1)
    return values
