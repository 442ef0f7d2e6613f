"""What the axes of reshaped, sliced and concatenated tensors hold."""

# Arguments of torch's functions have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from captum_ib.axis import Axis
from captum_ib.hooks.axis_rules import Rule, agreed, unknown
from captum_ib.hooks.regroup import OTHER, PLACES, C, D, H, N, P, W, regrouped

if TYPE_CHECKING:
    from captum_ib.hooks.axes import AxisTracker, Operation, Order


def _reshaped(tracker: AxisTracker, op: Operation) -> None:
    source = op.given[0]
    for result in op.outputs:
        axes = regrouped(tracker.of(source), source.shape, result.shape)
        tracker.show(result, axes, (source, _untouched(source.shape, result.shape)))


def _untouched(old: Sequence[int], new: Sequence[int]) -> Order:
    """Axes before and behind those that a reshape joins or parts stay what they are."""
    order: list[int | None] = [None] * len(new)
    for place, (one, other) in enumerate(zip(old, new, strict=False)):
        if one != other:
            break
        order[place] = place
    for place in range(1, min(len(old), len(new)) + 1):
        if old[-place] != new[-place] or order[-place] is not None:
            break
        order[-place] = len(old) - place
    return tuple(order)


def _padded(tracker: AxisTracker, op: Operation) -> None:
    source, result = op.given[0], op.outputs[0]
    widths = [int(width) for width in op.argument(1, "pad")]
    axes = list(tracker.of(source))
    for place, (before, behind) in enumerate(zip(widths[::2], widths[1::2], strict=True)):
        at = source.ndim - 1 - place
        axes[at] = _lengthened(axes[at], before, behind)
    tracker.show(result, tuple(axes))


def _lengthened(axis: Axis | None, before: int, behind: int) -> Axis | None:
    """An axis with a border; one that is cut at a side is no longer followed."""
    if axis is None or (before, behind) == (0, 0) or axis == C:
        return axis
    if min(before, behind) < 0 or (axis not in (D, H, W, P) and not axis.grid):
        return OTHER
    if axis.grid is None:
        return axis
    return axis._replace(prefix=axis.prefix + before, suffix=axis.suffix + behind)


def _concatenated(tracker: AxisTracker, op: Operation) -> None:
    result = op.outputs[0]
    dim = op.argument(1, "dim", op.kwargs.get("axis", 0)) % result.ndim
    given = [one for one in op.given if one.ndim == result.ndim]
    known = [tracker.of(one) for one in given]
    axes = [agreed(one[place] for one in known) for place in range(result.ndim)]
    along = [one[dim] for one in known]
    sizes = [int(one.shape[dim]) for one in given]
    axes[dim] = along[0] if len(given) == 1 else _in_a_row(along, sizes)
    tracker.show(result, tuple(axes))
    for one in given:  # what is beside each other has the same axes
        tracker.demand(one, tuple(a if i != dim else None for i, a in enumerate(axes)))


def _in_a_row(along: list[Axis | None], sizes: list[int]) -> Axis | None:
    """What an axis holds that others were put on one behind the other."""
    grids = [place for place, axis in enumerate(along) if axis is not None and axis.grid]
    kinds = {axis for axis in along if axis is not None}
    if len(grids) == 1 and kinds - {along[grids[0]]} <= {P}:
        axis = along[grids[0]]
        before, behind = sum(sizes[: grids[0]]), sum(sizes[grids[0] + 1 :])
        return axis and axis._replace(prefix=axis.prefix + before, suffix=axis.suffix + behind)
    if not kinds or kinds in ({C}, {P}, {N}):
        return next(iter(kinds), None)
    return OTHER


def _stacked(tracker: AxisTracker, op: Operation) -> None:
    result = op.outputs[0]
    dim = op.argument(1, "dim", 0) % result.ndim
    known = [tracker.of(one) for one in op.given]
    axes = [agreed(one[place] for one in known) for place in range(result.ndim - 1)]
    tracker.show(result, (*axes[:dim], None, *axes[dim:]))


def _indexed(tracker: AxisTracker, op: Operation) -> None:
    source = op.given[0]
    index = op.args[1] if isinstance(op.args[1], tuple) else (op.args[1],)
    kinds = (int, slice, type(None), type(Ellipsis))
    if not all(isinstance(one, kinds) and not isinstance(one, bool) for one in index):
        return unknown(tracker, op)
    known, places = tracker.of(source), sum(isinstance(one, (int, slice)) for one in index)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        fill = (slice(None),) * (source.ndim - places)
        index = (*index[:at], *fill, *index[at + 1 :])
    axes: list[Axis | None] = []
    place = 0
    for one in index:
        if isinstance(one, slice):
            axes.append(_sliced(known[place], one, source.shape[place]))
        axes += [None] if one is None else []
        place += one is not None
    return tracker.show(op.outputs[0], (*axes, *known[place:]))


def _sliced(axis: Axis | None, part: slice, size: int) -> Axis | None:
    """A stretch of an axis; of a grid of positions it must hold the whole grid."""
    start, stop, step = part.indices(size)
    if (start, stop, step) == (0, size, 1) or axis is None or axis in (D, H, W, P, C, N):
        return axis
    if axis.grid and (stop <= axis.prefix or start >= size - axis.suffix):
        return None  # class tokens and the like, nothing of the grid
    if step != 1 or axis.grid is None or start > axis.prefix or size - stop > axis.suffix:
        return OTHER
    return axis._replace(prefix=axis.prefix - start, suffix=axis.suffix - (size - stop))


def _split(tracker: AxisTracker, op: Operation) -> None:
    source = op.given[0]
    dim = op.argument(2, "dim", 0) % source.ndim
    known, size = tracker.of(source), int(source.shape[dim])
    ends = list(accumulate(int(result.shape[dim]) for result in op.outputs))
    for start, end, result in zip([0, *ends], ends, op.outputs, strict=False):
        part = _sliced(known[dim], slice(start, end), size)
        tracker.show(result, (*known[:dim], part, *known[dim + 1 :]))


def _narrowed(tracker: AxisTracker, op: Operation) -> None:
    source = op.given[0]
    dim, start, length = (op.argument(i + 1, name) for i, name in enumerate(_NARROW))
    dim, known = dim % source.ndim, tracker.of(source)
    part = _sliced(known[dim], slice(int(start), int(start) + length), source.shape[dim])
    tracker.show(op.outputs[0], (*known[:dim], part, *known[dim + 1 :]))


_NARROW = ("dim", "start", "length")


def _picked(tracker: AxisTracker, op: Operation) -> None:
    """One index of an axis, or all one after the other: the axis is gone."""
    source = op.given[0]
    dim = op.argument(1, "dim", 0) % source.ndim
    known = tracker.of(source)
    order = tuple(place for place in range(source.ndim) if place != dim)
    for result in op.outputs:
        tracker.show(result, (*known[:dim], *known[dim + 1 :]), (source, order))


def _squeezed(tracker: AxisTracker, op: Operation) -> None:
    source = op.given[0]
    dim = op.argument(1, "dim")
    dims = range(source.ndim) if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {one % source.ndim for one in dims if source.shape[one] == 1}
    order = tuple(place for place in range(source.ndim) if place not in gone)
    known = tracker.of(source)
    tracker.show(op.outputs[0], tuple(known[place] for place in order), (source, order))


def _unsqueezed(tracker: AxisTracker, op: Operation) -> None:
    source, result = op.given[0], op.outputs[0]
    dim = op.argument(1, "dim", 0) % result.ndim
    known = tracker.of(source)
    order = (*range(dim), None, *range(dim, source.ndim))
    tracker.show(result, (*known[:dim], None, *known[dim:]), (source, order))


def _expanded(tracker: AxisTracker, op: Operation) -> None:
    """Axes that were repeated hold nothing that is known."""
    source, result = op.given[0], op.outputs[0]
    known, shift = tracker.of(source), result.ndim - source.ndim
    axes: list[Axis | None] = [None] * shift
    for axis, before, behind in zip(known, source.shape, result.shape[shift:], strict=True):
        repeated = axis is not None and axis.role in PLACES and before > 1
        axes.append(axis if before == behind else OTHER if repeated else None)
    tracker.show(result, tuple(axes))


def _shifted(tracker: AxisTracker, op: Operation) -> None:
    """Rolled or flipped: positions along these axes are no longer where they were."""
    source, result = op.given[0], op.outputs[0]
    dims = op.argument(2 if op.name == "roll" else 1, "dims")
    dims = op.args[1:] if op.name == "flip" and isinstance(dims, int) else dims
    dims = range(source.ndim) if dims in (None, ()) else [dims] if isinstance(dims, int) else dims
    moved = {dim % source.ndim for dim in dims}
    known = enumerate(tracker.of(source))
    tracker.show(result, tuple(a if i not in moved or a == C else OTHER for i, a in known))


RULES: dict[str, Rule] = {
    **dict.fromkeys("flatten unflatten reshape view reshape_as view_as".split(), _reshaped),
    **dict.fromkeys("cat concat concatenate".split(), _concatenated),
    **dict.fromkeys("split chunk tensor_split split_with_sizes".split(), _split),
    **dict.fromkeys("expand expand_as repeat broadcast_to".split(), _expanded),
    **dict.fromkeys("roll flip".split(), _shifted),
    **dict.fromkeys("unbind select".split(), _picked),
    "pad": _padded,
    "stack": _stacked,
    "__getitem__": _indexed,
    "narrow": _narrowed,
    "squeeze": _squeezed,
    "unsqueeze": _unsqueezed,
}
