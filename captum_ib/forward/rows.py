"""Which arguments of a forward function go along with the samples, and which all samples share."""

# Arguments of a model have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ib.forward.masks import KEEP, LIKELY_PADDING, PADDING, parameter_names
from captum_ib.hooks import borrowed, roots
from captum_ib.models.view import ModelView

if TYPE_CHECKING:
    from captum_ib.forward.call import Call

ROWS = re.compile(
    "|".join(one.pattern for one in (KEEP, PADDING, LIKELY_PADDING))
    + r"|(.*_)?(token_type_ids|token_types?|segment_ids|input_ids|pixel_values|lengths)"
)
"""Names of parameters that have a row for each sample."""
MOST = 3
"""So many arguments are looked at; more are taken as Captum takes them, a row for each sample."""
SAME = 1e-3
"""Largest difference of two passes that are the same, relative to the largest output."""
Shared = frozenset[int]
_FAILS = (RuntimeError, ValueError, TypeError)


def shared_arguments(call: Call) -> Shared:
    """The additional tensors that all samples share, by position.

    Those of another number of rows than there are samples. Of the others it is decided by what
    the parameter is called, else by a check: alone with its own row, or with all of the tensor,
    the first sample must give what it gives beside another one. Where both do, a row belongs to
    each sample, as Captum takes them.

    Raises:
        ValueError: it can't be told.
    """
    first = len(call.inputs)
    tensors = [i for i in range(first, len(call.arguments)) if _has_axes(call.arguments[i])]
    shared = frozenset(i for i in tensors if len(call.arguments[i]) != call.n)
    if isinstance(call.forward_func, ModelView):
        return shared
    names = parameter_names(call.forward_func, len(call.arguments))
    asked = [
        i
        for i in tensors
        if i not in shared and i not in call.marks and not ROWS.fullmatch(names[i])
    ]
    if not 0 < len(asked) <= MOST:
        return shared
    return shared | _checked(call, asked, shared)


def _has_axes(value: object) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0


def _checked(call: Call, asked: Sequence[int], shared: Shared) -> Shared:
    """Which of some arguments are shared, by passes of one and of two samples."""
    readings = [
        frozenset(some) for k in range(len(asked) + 1) for some in combinations(asked, k)
    ]  # as few shared ones as possible first

    def found(rows: Sequence[int]) -> dict[Shared, Tensor]:
        passes = ((reading, _row(call, rows, reading | shared)) for reading in readings)
        return {reading: row for reading, row in passes if row is not None}

    with borrowed(roots(call.forward_func, lambda: found([0]))), torch.no_grad():
        alone = found([0])
        if call.n == 1:  # what fits repeated samples without being repeated fits any number
            repeated = found([0, 0])
            fits = [one for one in reversed(readings) if _same(alone.get(one), repeated.get(one))]
            return fits[0] if fits else frozenset()
        if len(alone) == 1:
            return next(iter(alone))
        beside = found([0, 1]) if alone else {}
    fits = [one for one in readings if _same(alone.get(one), beside.get(one))]
    if fits and all(_same(alone[fits[0]], alone[one]) for one in fits):
        return fits[0]
    if not alone:
        call.run()  # an error of the model itself must reach the caller
    raise ValueError(_question(call, asked, bool(alone)))


def _row(call: Call, rows: Sequence[int], shared: Iterable[int]) -> Tensor | None:
    """The first row of the output for some samples; ``None`` where the model fails on them."""
    given = [
        value[list(rows)].clone() if i < len(call.inputs) or _goes_along(call, i, shared) else value
        for i, value in enumerate(call.arguments)
    ]
    try:
        return call.called_with(given, len(rows))[0].float()
    except _FAILS:
        return None


def _goes_along(call: Call, index: int, shared: Iterable[int]) -> bool:
    return _has_axes(call.arguments[index]) and index not in shared


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return False
    return bool((one - other).abs().max() <= SAME * one.abs().max())


def _question(call: Call, asked: Sequence[int], runs: bool) -> str:
    listed = ", ".join(f"number {i} of shape {tuple(call.arguments[i].shape)}" for i in asked)
    found = (
        "it can't be told whether each row belongs to a sample: the first sample gives another "
        "output alone than beside the second one"
        if runs
        else "the model does not run on a single sample with its row, nor with all rows"
    )
    return (
        f"argument {listed} of forward_func (counted from 0) has as many rows as there are "
        f"samples, but {found}. What all samples share goes into forward_func: "
        "forward_func=lambda x: model(x, table), with the layer as a module; a tensor of "
        "additional_forward_args has a row for each sample"
    )
