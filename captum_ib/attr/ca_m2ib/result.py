"""What CA-M2IB found beside its maps: which token looks at which token of the other modality."""

# torch does not type unflatten.
# pyright: reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ib.attr.base import Explained
from captum_ib.attr.ca_m2ib.facing import FacingCall
from captum_ib.layout import TokenLayout


@dataclass(frozen=True)
class CrossAttention:
    """Which token of one modality looks at which token of the other: A of eq. 4.

    Attributes:
        weights: ``(N, T, T')``; a row is the distribution of one token's attention over the other
            modality's tokens. Rows and columns of tokens that don't count (class token, padding)
            are 0.
        query, key: the modalities of rows and columns.
        query_layout, key_layout: where the tokens of rows and columns lie.
        n_parameters: numbers in Θ_A, per pair: 3d² + d·C for joint width d and layer width C.
    """

    weights: Tensor
    query: str
    key: str
    query_layout: TokenLayout
    key_layout: TokenLayout
    n_parameters: int

    def over_keys(self) -> Tensor:
        """Where each token looks: ``(N, T, h, w)`` if the other modality has a grid, else
        ``(N, T, T')``."""
        return _by_row(self.weights, self.key_layout)

    def over_queries(self) -> Tensor:
        """Who looks at each of the other modality's tokens: ``(N, T', h, w)`` or ``(N, T', T)``."""
        return _by_row(self.weights.transpose(1, 2), self.query_layout)


def _by_row(weights: Tensor, layout: TokenLayout) -> Tensor:
    n, rows = weights.shape[:2]
    tokens = layout.arrange(weights.flatten(0, 1).unsqueeze(-1), layout.grid)
    maps = layout.attribution(tokens)
    return (maps.squeeze(1) if layout.spatial else maps).unflatten(0, (n, rows))


Attentions = tuple[CrossAttention, CrossAttention]


def attentions_of(
    sides: Sequence[FacingCall],
    fits: Sequence[Explained],
    seen: Sequence[tuple[str, Tensor]],
) -> Attentions:
    """What the fits' parts left, (modality, A), as one attention per direction."""
    names = [side.modality for side in sides]
    width = sides[0].own.values.shape[-1]
    first, second = (
        CrossAttention(
            torch.cat([A for name, A in seen if name == names[index]]),
            names[index],
            names[1 - index],
            sides[index].own.layout,
            sides[1 - index].own.layout,
            width * (3 * width + fit.bits[0].shape[fit.layouts[0].channel_axis]),
        )
        for index, fit in enumerate(fits)
    )
    return first, second
