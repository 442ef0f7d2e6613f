"""What an axis of an activation holds, and how that is said."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Axis(NamedTuple):
    """What an axis holds.

    Attributes:
        role: ``"samples"``, ``"channels"``, ``"depth"`` (or time), ``"rows"``, ``"columns"``,
            ``"positions"``, or what no layout has: ``"joined"`` axes, ``"other"``, …
        grid: of positions: rows and columns, or depth, rows and columns, that were put one behind
            the other.
        prefix: positions before the grid.
        suffix: positions behind it.
        parts: of joined axes: what they hold, and their sizes.
    """

    role: str
    grid: tuple[int, ...] | None = None
    prefix: int = 0
    suffix: int = 0
    parts: tuple[tuple[Axis | None, int], ...] = ()

    def fits(self, size: int) -> bool:
        """Whether an axis of that size can hold it."""
        if self.grid is None:
            return True
        return size == self.prefix + math.prod(self.grid) + self.suffix


Axes = tuple[Axis | None, ...]
"""What each axis of a tensor holds; ``None``: unknown."""


def advice(activation: Tensor, axes: Axes) -> str:
    """What to pass for an activation whose layout can't be told."""
    if activation.ndim > 5:
        return (
            "maps have 2 to 5 axes: put torch.nn.Flatten(2) behind the layer and "
            f"torch.nn.Unflatten(2, {tuple(activation.shape[2:])}) behind that, explain the "
            "Flatten with layout=TokenLayout('ncl'), attribute_to_layer_input=False, and "
            "give the map the layer's shape"
        )
    if activation.ndim == 5:
        return (
            "pass layout=TokenLayout('ncdhw') for channels ahead of depth (or time), rows and "
            "columns, TokenLayout('ndhwc') for channels behind them"
        )
    if [axis.role for axis in axes[1:2] if axis] == ["samples"]:
        return (
            "its samples lie on axis 1, so set forward_func.samples_axis = 1 (or samples_axis=1 on "
            "the Tower)"
        )
    return (
        "pass layout=, for example TokenLayout('tokens', prefix=1, grid=(14, 14)), "
        "TokenLayout('nchw'), TokenLayout('nhwc') or TokenLayout('sequence'), of a video "
        "TokenLayout('tokens', grid=(frames, rows, columns)); for windows or blocks of an image "
        "choose another layer"
    )


SAMPLES = (None, "samples")
"""Roles of an axis that may hold the samples."""

PLACES = ("depth", "rows", "columns", "positions")
"""Roles of axes that hold places."""


def shown(axes: Axes) -> str:
    """The axes' roles, one behind the other; "?" for what is not known."""
    return ", ".join(axis.role if axis else "?" for axis in axes)


LAYOUTS: dict[tuple[str | None, ...], str] = {
    ("channels",): "flat",
    ("channels", "positions"): "ncl",
    ("channels", "rows", "columns"): "nchw",
    ("rows", "columns", "channels"): "nhwc",
    ("channels", "depth", "rows", "columns"): "ncdhw",
    ("depth", "rows", "columns", "channels"): "ndhwc",
}
"""Roles behind the samples → the kind of layout."""
