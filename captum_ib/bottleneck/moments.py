"""Count, mean and spread of every element of a layer, from a batch or from two parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_COLUMNS = 4096
"""Elements of a layer that are summed together on a CPU, so that their batch stays in its cache."""


@dataclass
class Moments:
    """Count, mean, sum of squared deviations and share of non-zeros of every element of one layer.

    All tensors are float64 of the layer's shape without the sample axis; ``count`` is per element,
    as padding positions do not count.
    """

    count: Tensor
    mean: Tensor
    m2: Tensor
    nonzero: Tensor

    @staticmethod
    def of(batch: Tensor, mask: Tensor | None = None) -> Moments:
        """Moments of one batch ``(N, *shape)``; ``mask`` ``(N, T)`` marks the valid positions."""
        values = batch.detach()
        values = values if values.dtype == torch.float64 else values.float()
        if mask is None:
            count = torch.full(values.shape[1:], float(values.shape[0]), dtype=torch.float64)
            mean, m2, nonzero = _sums(values)
        else:
            weight = mask.to(values).reshape(*mask.shape, *[1] * (values.ndim - mask.ndim))
            total = weight.sum(dim=0).expand(values.shape[1:])
            mean = (values * weight).sum(dim=0) / total.clamp_min(1.0)
            m2 = ((values - mean).square() * weight).sum(dim=0)
            nonzero = ((values != 0) * weight).sum(dim=0)
            count = total.cpu().double().clone()
        return Moments(count, *(part.cpu().double() for part in (mean, m2, nonzero)))

    @property
    def variance(self) -> Tensor:
        """Population variance."""
        return self.m2 / self.count.clamp_min(1.0)

    def pooled(self) -> Moments:
        """Moments over all positions of the first axis together, ``(1, …)``."""
        if self.mean.ndim < 2 or bool((self.count >= 2).all()):
            return self
        count = self.count.sum(dim=0, keepdim=True)
        share = self.count / count.clamp_min(1.0)
        mean = (self.mean * share).sum(dim=0, keepdim=True)
        spread = (self.m2 + self.count * (self.mean - mean).square()).sum(dim=0, keepdim=True)
        return Moments(count, mean, spread, self.nonzero.sum(dim=0, keepdim=True))

    def merge(self, other: Moments) -> Moments:
        """Moments of both parts together (Chan et al. 1983, eq. 1.5)."""
        count = self.count + other.count
        share = other.count / count.clamp_min(1.0)
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * share,
            self.m2 + other.m2 + delta.square() * self.count * share,
            self.nonzero + other.nonzero,
        )


def _sums(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, sum of squared deviations and number of non-zeros over the first axis, on its device.

    Two passes over the values, for precision, but one over the memory: some columns at a time. Sums
    over samples are matrix products, the fastest sum that torch has.
    """
    flat = values.reshape(len(values), -1)
    width = min(_COLUMNS, flat.shape[1]) if values.device.type == "cpu" else flat.shape[1]
    ones, sums = values.new_ones(1, len(values)), values.new_empty(3, flat.shape[1])
    room = values.new_empty(len(values), width)
    for part, (mean, squares, nonzero) in zip(
        flat.split(width, dim=1), _rows(sums, width), strict=True
    ):
        work = room[:, : part.shape[1]]
        torch.mm(ones, part, out=mean).div_(len(values))
        torch.mm(ones, torch.sub(part, mean, out=work).square_(), out=squares)
        torch.mm(ones, torch.sign(part, out=work).square_(), out=nonzero)
    mean, m2, nonzero = sums.reshape(3, *values.shape[1:])
    return mean, m2, nonzero


def _rows(sums: Tensor, width: int) -> Iterator[Iterable[Tensor]]:
    """The rows ``(1, width)`` of every block of columns."""
    return (block.split(1) for block in sums.split(width, dim=1))
