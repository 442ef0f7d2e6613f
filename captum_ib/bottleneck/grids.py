"""Linear maps along the sides of a grid: smoothing, and averaging over areas."""

# torch does not type unflatten.
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor

from captum_ib.layout import TokenLayout

Operator = Callable[[Tensor], Tensor]
"""Values at some positions → values at others, or in other axes."""


def gaussian_matrix(size: int, sigma: float) -> Tensor:
    """Smoothing along one axis as a row-stochastic matrix, ``(size, size)``, borders reflected.

    A matrix rather than a convolution: padding has no deterministic backward pass on CUDA, and
    the grids of hidden layers are small. The kernel reaches 2σ to each side, as in the authors'
    code.

    >>> gaussian_matrix(4, 1.0).sum(dim=1).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    reach = max(1, round(2 * sigma))
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma).square())
    period = max(1, 2 * (size - 1))
    source = (torch.arange(size)[:, None] + offsets[None]).remainder(period)
    source = torch.minimum(source, period - source) if size > 1 else torch.zeros_like(source)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix.scatter_add_(1, source, (weights / weights.sum()).expand(size, -1).contiguous())
    return matrix.float()


def area_matrix(fine: int, coarse: int) -> Tensor:
    """Area averaging from ``fine`` to ``coarse`` cells along one axis, ``(coarse, fine)``.

    Each coarse cell averages the fine cells it covers, weighted by the covered share.

    >>> area_matrix(3, 2)
    tensor([[0.6667, 0.3333, 0.0000],
            [0.0000, 0.3333, 0.6667]])
    """
    if not 1 <= coarse <= fine:
        raise ValueError(f"area averaging goes from fine to coarse, given {fine} → {coarse} cells")
    edge = torch.arange(coarse + 1, dtype=torch.float64) * (fine / coarse)
    cell = torch.arange(fine, dtype=torch.float64)
    overlap = torch.minimum(edge[1:, None], cell + 1) - torch.maximum(edge[:-1, None], cell)
    return (overlap.clamp_min(0.0) * (coarse / fine)).float()


@dataclass(frozen=True)
class GridOperator:
    """One matrix along each side of a grid: rows and columns, of a volume also its depth.

    Attributes:
        matrices: row-stochastic, ``(new, old)``, one per side.
        axes: the grid's axes in the tensors that it is called on; not used with ``grid``.
        prefix, grid: for tokens ``(N, prefix + h·w + suffix, C)``: those before and behind the
            grid stay as they are.
    """

    matrices: tuple[Tensor, ...]
    axes: tuple[int, ...] = (-2, -1)
    prefix: int = 0
    grid: tuple[int, ...] | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Values at the old positions → values at the new ones."""
        if self.grid is None:
            return self._apply(values, self.axes)
        stop, sides = self.prefix + math.prod(self.grid), len(self.grid)
        patches = values[:, self.prefix : stop].unflatten(1, self.grid)
        patches = self._apply(patches, tuple(range(1, 1 + sides))).flatten(1, sides)
        return torch.cat([values[:, : self.prefix], patches, values[:, stop:]], 1)

    def _apply(self, values: Tensor, axes: tuple[int, ...]) -> Tensor:
        *outer, rows, columns = (one.to(values.device) for one in self.matrices)
        last = tuple(range(-len(axes), 0))
        moved = rows @ values.movedim(axes, last) @ columns.T
        for depth in outer:
            plane = moved.shape[-2:]
            moved = (depth @ moved.flatten(-2)).unflatten(-1, plane)
        return moved.movedim(last, axes)


def smoothing_over(layout: TokenLayout, R: Tensor, sigma: float) -> GridOperator:
    """Smoothing over a layer's positions, σ in cells.

    Raises:
        ValueError: a layer without a grid.
    """
    sides = layout.sides(R)
    if sides is None:
        raise ValueError(f"smoothing needs a layer with a grid, its layout is {layout.kind!r}")
    matrices = tuple(gaussian_matrix(side, sigma) for side in sides)
    if layout.kind == "tokens":
        return GridOperator(matrices, prefix=layout.prefix, grid=sides)
    start = 2 if layout.channel_axis == 1 else 1
    return GridOperator(matrices, axes=tuple(range(start, start + len(sides))))


def over_resolutions(
    R: Sequence[Tensor], layouts: Sequence[TokenLayout], uniform: bool, sigma: float | None
) -> tuple[tuple[int, ...], list[tuple[Operator | None, Operator]]]:
    """One λ for layers of different resolution: on the finest grid, averaged for coarser layers.

    Returns:
        The shape of α; per layer, how λ is averaged, and how it is arranged in the layer's axes.

    Raises:
        ValueError: layers without a grid, of different prefixes or (per element) channels.
    """
    grids = _grids(R, layouts)
    prefix, width = _common(R, layouts, uniform)
    finest = tuple(max(sides) for sides in zip(*grids, strict=True))
    tokens = TokenLayout("tokens", prefix, cast("tuple[int, int] | tuple[int, int, int]", finest))
    smooth = None if sigma is None else smoothing_over(tokens, R[0], sigma)
    read: list[tuple[Operator | None, Operator]] = []
    for layout, grid in zip(layouts, grids, strict=True):
        pool = None if grid == finest else _pooling(finest, grid, prefix)
        read.append((_chain(smooth, pool), partial(layout.arrange, grid=grid)))
    return (len(R[0]), prefix + math.prod(finest), width), read


def _grids(R: Sequence[Tensor], layouts: Sequence[TokenLayout]) -> list[tuple[int, ...]]:
    """The layers' grids, all with as many sides.

    Raises:
        ValueError: a layer without a grid, or pictures beside volumes.
    """
    found = [layout.sides(r) for r, layout in zip(R, layouts, strict=True)]
    grids = [sides for sides in found if sides is not None]
    if len(grids) < len(found) or len({len(sides) for sides in grids}) > 1:
        raise ValueError(
            "layers of different shapes can share a damping ratio only where each has a grid; "
            f"given layouts {[layout.kind for layout in layouts]}; use damping='individual'"
        )
    return grids


def _common(R: Sequence[Tensor], layouts: Sequence[TokenLayout], uniform: bool) -> tuple[int, int]:
    """Prefix tokens and channels of a λ that layers of different shapes share."""
    prefixes = {layout.prefix for layout in layouts}
    channels = {r.shape[layout.channel_axis] for r, layout in zip(R, layouts, strict=True)}
    if len(prefixes) > 1 or (not uniform and len(channels) > 1):
        raise ValueError(
            f"can't share one damping ratio over layers with {sorted(prefixes)} prefix tokens and "
            f"{sorted(channels)} channels; use channel='uniform', other layers, or "
            "damping='individual'"
        )
    return prefixes.pop(), 1 if uniform else channels.pop()


def _pooling(fine: tuple[int, ...], coarse: tuple[int, ...], prefix: int) -> GridOperator:
    matrices = tuple(area_matrix(*pair) for pair in zip(fine, coarse, strict=True))
    return GridOperator(matrices, prefix=prefix, grid=fine)


def _chain(first: Operator | None, second: Operator | None) -> Operator | None:
    """Both, one after the other."""
    if first is None or second is None:
        return first or second
    return lambda values: second(first(values))
