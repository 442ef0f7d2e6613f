"""What the axes of a reshaped tensor hold."""

from __future__ import annotations

from collections.abc import Sequence

from captum_ib.axis import Axes, Axis

N, C, D, H, W, P = (
    Axis(role) for role in ("samples", "channels", "depth", "rows", "columns", "positions")
)
GROUP = Axis("part of the channels")
ROW = Axis("rows within a block")
COLUMN = Axis("columns within a block")
OTHER = Axis("other")
"""Positions in an order that is not known: rolled, flipped, picked, mixed."""

PLACES = {"depth", "rows", "columns", "positions", "joined", "other", ROW.role, COLUMN.role}
"""Roles of axes that hold places, or may."""

Part = tuple[Axis | None, int]
"""What an axis holds, and how many of it."""


def regrouped(axes: Axes, old: Sequence[int], new: Sequence[int]) -> Axes:
    """The axes of a tensor of shape ``old`` viewed in the shape ``new``.

    Raises:
        ValueError: the new axes cut through the old ones.

    >>> regrouped((N, C, H, W), (2, 5, 3, 4), (2, 5, 12))[2].grid
    (3, 4)
    >>> regrouped((N, Axis("positions", (3, 4)), C), (2, 12, 5), (2, 3, 4, 5))[1:3] == (H, W)
    True
    """
    if tuple(old) == tuple(new):
        return axes
    left = [part for axis, size in zip(axes, old, strict=True) for part in _parts(axis, size)]
    return tuple(_one(left) if size == 1 else _taken(left, size) for size in new)


def _parts(axis: Axis | None, size: int) -> list[Part]:
    """What was joined to an axis, one behind the other."""
    if axis is not None and axis.grid and not axis.prefix + axis.suffix:
        return list(zip((D, H, W)[-len(axis.grid) :], axis.grid, strict=True))
    if axis is not None and axis.parts:
        return list(axis.parts)
    return [(axis, size)]


def _one(left: list[Part]) -> Axis | None:
    """What an axis of size 1 holds: what the old one in its place did."""
    return left.pop(0)[0] if left and left[0][1] == 1 else None


def _taken(left: list[Part], size: int) -> Axis | None:
    """Take what an axis of that size holds from what is left."""
    taken: list[Part] = []
    while size > 1 and left:
        axis, own = left.pop(0)
        if own == 1:
            continue
        if size % own == 0:
            taken.append((axis, own))
            size //= own
        elif own % size == 0:
            outer, inner = _cut(axis)
            taken.append((outer, size))
            left.insert(0, (inner, own // size))
            size = 1
        else:
            break
    if size != 1:
        raise ValueError("the new axes cut through the old ones")
    return _joined(taken)


def _cut(axis: Axis | None) -> tuple[Axis | None, Axis | None]:
    """The outer and the inner part of an axis that is cut into blocks."""
    if axis in (None, C, GROUP):
        return (None, None) if axis is None else (GROUP, GROUP)
    if axis == P:
        return P, OTHER
    return {H: (H, ROW), W: (W, COLUMN)}.get(axis or OTHER, (OTHER, OTHER))


def _joined(parts: list[Part]) -> Axis | None:
    """What an axis holds that several were joined to."""
    kept: list[Part] = []
    for axis, size in parts:
        if kept and (kept[-1][0], axis) in ((H, ROW), (W, COLUMN), (P, P)):
            kept[-1] = (kept[-1][0], kept[-1][1] * size)
        else:
            kept.append((axis, size))
    held = [axis for axis, _ in kept]
    if len(held) == 1:
        return held[0]
    if held in ([H, W], [D, H, W]):
        return P._replace(grid=tuple(size for _, size in kept))
    if set(held) <= {C, GROUP}:
        return C
    # Channels of the cells of a block, one behind the other.
    if C in held and set(held) <= {C, GROUP, ROW, COLUMN, OTHER, None}:
        return C
    return None if set(held) == {None} else Axis("joined", parts=tuple(kept))
