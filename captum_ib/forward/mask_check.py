"""The check that tells what a mask means: other tokens at padding leave the output as it is."""

# Arguments of a model have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_ib.forward.mask_forms import Reading, is_additive, is_binary
from captum_ib.hooks import borrowed, roots

if TYPE_CHECKING:
    from captum_ib.forward.call import Call

CHECKED = 2
"""Samples with padding that the check looks at, one by one."""
LEAK = 1e-3
"""Largest change by a padded token, relative to the change by the tokens that count."""


def passing(call: Call, readings: Sequence[Reading]) -> list[Reading]:
    """The readings under which padding, and only padding, changes nothing; one per argument.

    What stands where it says padding, then what stands at the other tokens, is replaced by
    something else: the explained value must stay for the one, and change for the other.
    """
    if not readings:
        return []
    tokens = _tokens_argument(call, readings[0].tokens)
    if tokens is None:
        return []  # what belongs to a token can't be replaced
    with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
        changes = _Changes(call, tokens)
        passed = [reading for reading in readings if changes.fit(reading.valid(call.arguments))]
    first = {reading.argument: reading for reading in reversed(passed)}
    return [reading for reading in passed if first[reading.argument] is reading]


class _Changes:
    """How the explained value of single samples changes with their tokens."""

    def __init__(self, call: Call, tokens: int) -> None:
        self.call, self.tokens = call, tokens
        self.one: dict[int, tuple[Call, Tensor]] = {}
        self.found: dict[tuple[int, ...], float] = {}

    def fit(self, valid: Tensor) -> bool:
        """Whether tokens that are not valid change nothing, and the others something."""
        rows = (valid.any(dim=1) & ~valid.all(dim=1)).nonzero().flatten().tolist()[:CHECKED]
        return bool(rows) and all(self._fits(row, valid[row]) for row in rows)

    def _fits(self, row: int, valid: Tensor) -> bool:
        large, small = self._change(row, valid), self._change(row, ~valid)
        least = 1e-5 * float(self.one[row][1].abs().max())
        return large > least and small <= LEAK * large

    def _change(self, row: int, where: Tensor) -> float:
        key = (row, *where.tolist())
        if key not in self.found:
            if row not in self.one:
                one = self.call.part(row, row + 1)
                self.one[row] = one, _explained(one, one.arguments)
            one, before = self.one[row]
            after = _explained(one, _changed(one, self.tokens, where))
            self.found[key] = float((after - before).abs().max())
        return self.found[key]


def _tokens_argument(call: Call, count: int) -> int | None:
    """Which argument holds the tokens: the first with a row for each, and more than zeros and ones
    where there is such a one."""
    fit = [
        index
        for index, value in enumerate(call.arguments)
        if isinstance(value, Tensor) and value.ndim > 1 and value.shape[:2] == (call.n, count)
    ]
    rich = [index for index in fit if _is_rich(call.arguments[index])]
    return next(iter([*rich, *(index for index in fit if index == 0)]), None)


def _is_rich(value: Tensor) -> bool:
    return not is_binary(value) and not is_additive(value)


def _changed(call: Call, tokens: int, where: Tensor) -> list[Any]:
    arguments = list(call.arguments)
    arguments[tokens] = replaced(arguments[tokens], where)
    return arguments


def _explained(call: Call, arguments: Sequence[Any]) -> Tensor:
    """The explained value for other arguments; without a target, all outputs."""
    given = [value.clone() if isinstance(value, Tensor) else value for value in arguments]
    output = call.called_with(given, call.n)
    if call.target is None and output[0].numel() > 1:
        return output.float()
    return call.score(output)


def replaced(values: Tensor, where: Tensor) -> Tensor:
    """One sample's tokens ``(1, T, …)`` with others at some positions: noise, or other ids."""
    changed = values.clone()
    if values.is_floating_point():
        noise = torch.randn(
            tuple(values.shape), generator=torch.Generator().manual_seed(0), dtype=torch.float32
        )
        scale, middle = values.float().std(), values.float().mean()
        changed[:, where] = (noise.to(values.device) * scale + middle)[:, where].to(values.dtype)
        return changed
    kept = values[:, ~where].unique()  # ids of the sample itself: surely in the vocabulary
    for position in where.nonzero().flatten().tolist():
        others = kept[kept != values[0, position]]
        own = torch.where(values[0, position] == 0, 1, 0).to(values.dtype)
        changed[0, position] = others[position % len(others)] if len(others) else own
    return changed
