"""Count, mean and spread of every element of a layer, from a batch or from two parts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_LARGE = 2**14
"""Elements of an activation from which adding up one after the other is faster on a CPU."""


@dataclass
class Moments:
    """Count, mean, sum of squared deviations and share of non-zeros of every element of one layer.

    All tensors are float64 of the layer's shape without the sample axis. ``count`` is a scalar, or
    per element where padding positions do not count.
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
            count = torch.tensor(float(values.shape[0]), dtype=torch.float64)
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
        counts = self.count.expand(self.mean.shape)
        count = counts.sum(dim=0, keepdim=True)
        mean = (self.mean * counts / count.clamp_min(1.0)).sum(dim=0, keepdim=True)
        spread = (self.m2 + counts * (self.mean - mean).square()).sum(dim=0, keepdim=True)
        return Moments(count, mean, spread, self.nonzero.sum(dim=0, keepdim=True))

    def merge(self, other: Moments) -> Moments:
        """Moments of both parts together (Chan et al. 1983, eq. 1.5)."""
        count = self.count + other.count
        share = other.count / count.clamp_min(1.0)
        delta = other.mean - self.mean
        mean = torch.addcmul(self.mean, delta, share)
        m2 = (self.m2 + other.m2).addcmul_(delta.square_(), self.count * share)
        return Moments(count, mean, m2, self.nonzero + other.nonzero)


def _sums(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, sum of squared deviations and number of non-zeros over the first axis, on its device.

    On a CPU, large activations are read once, from end to end, and added up in place in buffers
    that stay in its cache; deviations are taken from the mean of the first few, which is near.
    """
    n, shift = len(values), values[:4].mean(dim=0)
    if values.device.type != "cpu" or shift.numel() < _LARGE:
        mean = values.mean(dim=0)
        return mean, (values - mean).square_().sum(dim=0), values.ne(0).sum(dim=0)
    total, squares, nonzero = values.new_zeros(3, *shift.shape)
    work = torch.empty_like(shift)
    for value in values:
        total.add_(torch.sub(value, shift, out=work))
        squares.addcmul_(work, work)
        torch.sign(value, out=work)
        nonzero.addcmul_(work, work)
    squares.addcmul_(total, total, value=-1 / n).clamp_min_(0.0)
    return shift + total / n, squares, nonzero
