"""How the free parameter α becomes each bottleneck's damping ratio λ: shape, sharing, smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from captum_ib.bottleneck.grids import Operator, over_resolutions, smoothing_over
from captum_ib.layout import TokenLayout

INITIAL_ALPHA = 5.0
"""Start of α, so that λ ≈ 0.993: almost everything passes (Schulz et al., section 3.3)."""


class DampingRatio(NamedTuple):
    """λ in the three forms that a bottleneck needs, each exact where it matters.

    Attributes:
        lam: λ.
        rest: 1 − λ.
        log_rest: log(1 − λ), computed from α directly, since ``log(1 - lam)`` is −inf as soon as
            float32 rounds λ to 1 (at α ≈ 17).

    All have one shape, broadcastable to ``(N, *layer_shape)``.
    """

    lam: Tensor
    rest: Tensor
    log_rest: Tensor


def damping_ratio(alpha: Tensor) -> DampingRatio:
    """λ = sigmoid(α).

    >>> ratio = damping_ratio(torch.tensor([0.0, 90.0]))
    >>> ratio.lam.tolist(), [round(v, 4) for v in ratio.log_rest.tolist()]
    ([0.5, 1.0], [-0.6931, -90.0])
    """
    return DampingRatio(torch.sigmoid(alpha), torch.sigmoid(-alpha), logsigmoid(-alpha))


class Damping:
    """The free parameters α of a fit, and the λ of every bottleneck.

    Made by :meth:`shared` or :meth:`individual`.

    Args:
        alphas: the free parameters, float32, samples on axis 0.
        read: per bottleneck, which α it reads, and how λ is averaged (1 − λ ← K(1 − λ)) and then
            arranged in the layer's axes.

    >>> values = torch.zeros(2, 5, 8)
    >>> damping = Damping.shared([values], [TokenLayout("sequence")], uniform=True)
    >>> damping(0).lam.shape
    torch.Size([2, 5, 1])
    """

    def __init__(
        self, alphas: Sequence[Tensor], read: Sequence[tuple[int, Operator | None, Operator | None]]
    ) -> None:
        self.alphas = list(alphas)
        self._read = list(read)

    def __call__(self, index: int) -> DampingRatio:
        """λ of bottleneck ``index``, float32 whatever the autocast."""
        which, average, arrange = self._read[index]
        alpha = self.alphas[which]
        with torch.autocast(alpha.device.type, enabled=False):
            ratio = damping_ratio(alpha)
            if average is not None:
                ratio = _averaged(ratio, average)
            return ratio if arrange is None else DampingRatio(*map(arrange, ratio))

    @staticmethod
    def shared(
        R: Sequence[Tensor],
        layouts: Sequence[TokenLayout],
        *,
        uniform: bool,
        smoothing: float | None = None,
    ) -> Damping:
        """One λ for all layers; layers of different resolution average it over areas.

        Args:
            R: the layers' activations.
            layouts: their axes.
            uniform: one λ per position, ``R^{P×1}``, or one per element.
            smoothing: σ of a Gaussian over positions, in grid cells.

        Raises:
            ValueError: when the layers can't share one: different prefixes, no grid, or (per
                element) different channels; smoothing without a grid.
        """
        shapes = {_shape(r, layout, uniform) for r, layout in zip(R, layouts, strict=True)}
        if len(shapes) == 1 and len({(layout.kind, layout.prefix) for layout in layouts}) == 1:
            one = Damping.individual(R[:1], layouts[:1], uniform=uniform, smoothing=smoothing)
            return Damping(one.alphas, one._read * len(R))
        shape, read = over_resolutions(R, layouts, uniform, smoothing)
        return Damping([_alpha(shape, R[0])], [(0, *operators) for operators in read])

    @staticmethod
    def individual(
        R: Sequence[Tensor],
        layouts: Sequence[TokenLayout],
        *,
        uniform: bool,
        smoothing: float | None = None,
    ) -> Damping:
        """One λ for each layer; arguments as for :meth:`shared`."""
        alphas: list[Tensor] = []
        read: list[tuple[int, Operator | None, None]] = []
        for index, (r, layout) in enumerate(zip(R, layouts, strict=True)):
            alphas.append(_alpha(_shape(r, layout, uniform), r))
            smooth = None if smoothing is None else smoothing_over(layout, r, smoothing)
            read.append((index, smooth, None))
        return Damping(alphas, read)


def _alpha(shape: tuple[int, ...], like: Tensor) -> Tensor:
    return torch.full(
        shape, INITIAL_ALPHA, device=like.device, dtype=torch.float32, requires_grad=True
    )


def _shape(R: Tensor, layout: TokenLayout, uniform: bool) -> tuple[int, ...]:
    return layout.uniform_shape(R) if uniform else tuple(R.shape)


def _averaged(ratio: DampingRatio, operator: Operator) -> DampingRatio:
    """Average 1 − λ, relative to its largest value, so that the logarithm can't underflow."""
    top = ratio.log_rest.detach().flatten(1).amax(dim=1)
    top = top.reshape(-1, *[1] * (ratio.log_rest.ndim - 1))
    relative = operator(torch.exp(ratio.log_rest - top))
    log_rest = torch.log(relative.clamp_min(torch.finfo(relative.dtype).tiny)) + top
    return DampingRatio(-torch.expm1(log_rest), torch.exp(log_rest), log_rest)
