"""Linear maps along the rows and columns of a grid: smoothing, and averaging over areas."""

# torch does not type unflatten.
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


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
    """One matrix along the rows of a grid and one along its columns.

    Attributes:
        rows, columns: row-stochastic matrices, ``(new, old)``.
        axes: the grid's axes in the tensors that it is called on; not used with ``grid``.
        prefix, grid: for tokens ``(N, prefix + h·w + suffix, C)``: those before and behind the
            grid stay as they are.
    """

    rows: Tensor
    columns: Tensor
    axes: tuple[int, int] = (-2, -1)
    prefix: int = 0
    grid: tuple[int, int] | None = None

    def __call__(self, values: Tensor) -> Tensor:
        """Values at the old positions → values at the new ones."""
        if self.grid is None:
            return self._apply(values, self.axes)
        stop = self.prefix + self.grid[0] * self.grid[1]
        patches = self._apply(values[:, self.prefix : stop].unflatten(1, self.grid), (1, 2))
        return torch.cat([values[:, : self.prefix], patches.flatten(1, 2), values[:, stop:]], 1)

    def _apply(self, values: Tensor, axes: tuple[int, int]) -> Tensor:
        rows, columns = self.rows.to(values.device), self.columns.to(values.device)
        return (rows @ values.movedim(axes, (-2, -1)) @ columns.T).movedim((-2, -1), axes)
