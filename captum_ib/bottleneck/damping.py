"""How the free parameter α becomes each bottleneck's damping ratio λ: shape, smoothing, sharing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from captum_ib.bottleneck.information import Gate, gate_from_logit

INITIAL_ALPHA = 5.0
"""Start of α, so that λ ≈ 0.993: almost everything passes (Schulz et al., section 3.3)."""


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


@dataclass(frozen=True)
class Site:
    """How one bottleneck reads the shared α: averaged to its resolution, arranged in its axes.

    Attributes:
        operator: averages 1 − λ over positions; ``None`` keeps the resolution.
        arrange: brings the values into the axes of the layer; ``None`` keeps them.
    """

    operator: Callable[[Tensor], Tensor] | None = None
    arrange: Callable[[Tensor], Tensor] | None = None


@dataclass
class Damping:
    """The free parameter α of a fit and the gates that it gives, one per bottleneck.

    One damping ratio may serve several layers: every site reads the same α. With a smoothing
    operator K the gate follows 1 − λ = K ∗ sigmoid(−α).

    Args:
        shape: shape of α, ``(N, …)``; a size of 1 broadcasts (uniform over channels).
        sites: one per bottleneck; default one site that reads α as it is.
        smoothing: K, a row-stochastic map over positions, or ``None``.
        device: where α lives; α is always float32.

    >>> Damping((2, 5, 1)).gate(0).keep.shape
    torch.Size([2, 5, 1])
    """

    shape: tuple[int, ...]
    sites: Sequence[Site] = (Site(),)
    smoothing: Callable[[Tensor], Tensor] | None = None
    device: torch.device | str = "cpu"
    initial: float = INITIAL_ALPHA
    alpha: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.alpha = torch.full(
            self.shape, float(self.initial), device=self.device, requires_grad=True
        )

    def gate(self, index: int) -> Gate:
        """The gate of bottleneck ``index``, broadcastable to ``(N, *layer_shape)``, float32."""
        site = self.sites[index]
        gate = gate_from_logit(self.alpha)
        if self.smoothing is not None:
            gate = _average(gate, self.smoothing)
        if site.operator is not None:
            gate = _average(gate, site.operator)
        if site.arrange is not None:
            gate = Gate(*(site.arrange(part) for part in gate))
        return gate


def _average(gate: Gate, operator: Callable[[Tensor], Tensor]) -> Gate:
    """Average 1 − λ, relative to its largest value, so that the logarithm can't underflow."""
    top = gate.log_drop.detach().flatten(1).amax(dim=1)
    top = top.reshape(-1, *[1] * (gate.log_drop.ndim - 1))
    relative = operator(torch.exp(gate.log_drop - top))
    log_drop = torch.log(relative.clamp_min(torch.finfo(relative.dtype).tiny)) + top
    drop = torch.exp(log_drop)
    return Gate(-torch.expm1(log_drop), drop, log_drop)
