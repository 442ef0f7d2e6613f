"""The forms in which a tensor says what is padding, each read as valid tokens ``(N, T)``."""

# torch types neither reshape nor any.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

HIDES = -1e3
"""What is added to the attention to a token that is not to be seen; such masks hold 0 elsewhere."""


SAME = ("seen by others", "hidden from none")
"""Forms of ``(N, T, T)`` that hides the same tokens from all others."""
OTHER = ("seen", "not always hidden", "seen by any other")
"""Forms of another one: a causal mask, with or without padding."""


@dataclass(frozen=True)
class Reading:
    """Which argument says what is padding, and how.

    Attributes:
        argument: its position.
        form: a key of :data:`FORMS`.
        tokens: T, of the layer.
    """

    argument: int
    form: str
    tokens: int

    def valid(self, arguments: Sequence[Any]) -> Tensor:
        """Valid tokens ``(N, T)`` of bool."""
        return FORMS[self.form](arguments[self.argument], self.tokens)

    @property
    def plain(self) -> bool:
        """Whether a tensor of this form can hardly be anything but a mask."""
        return self.form in ("keep", "padding", "additive", *SAME)


def readings_of(argument: int, value: object, n: int, tokens: int) -> list[Reading]:
    """The ways in which an argument can be read as a mask of N samples with T tokens."""
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != n:
        return []
    return [Reading(argument, form, tokens) for form in _forms(value, tokens)]


def _forms(value: Tensor, tokens: int) -> Sequence[str]:
    inner = [size for size in value.shape[1:] if size != 1]
    if inner in ([tokens], [tokens, tokens]) and value.ndim > 1:
        row = len(inner) == 1
        if row:
            return (
                ("keep", "padding") if is_binary(value) else _only(is_additive(value), "additive")
            )
        if is_binary(value) or is_additive(value):
            return SAME if _same_for_all(value, tokens) else OTHER
    whole = not value.is_floating_point() and not value.is_complex() and value.dtype != torch.bool
    if not inner and value.ndim < 3 and whole and bool(((value > 0) & (value <= tokens)).all()):
        return ("lengths",)
    if len(inner) == 3 and inner[1:] == [tokens, tokens]:  # the same or another for each head
        return _forms(value[:, 0], tokens) if value.ndim == 4 else ()
    return ()


def _only(holds: bool, form: str) -> Sequence[str]:
    return (form,) if holds else ()


def _same_for_all(value: Tensor, tokens: int) -> bool:
    """Whether all tokens see the same, but for what a token sees of itself; else it is causal."""
    sees = _square(value, tokens)
    itself = torch.eye(tokens, dtype=torch.bool, device=value.device)
    return bool(((sees | itself).all(dim=1) | ~(sees & ~itself).any(dim=1)).all())


def is_binary(value: Tensor) -> bool:
    """Zeros and ones only."""
    return not value.is_complex() and bool(((value == 0) | (value == 1)).all())


def is_additive(value: Tensor) -> bool:
    """Zeros, and numbers so low that a softmax makes nothing of them; some of each."""
    if not value.is_floating_point():
        return False
    hidden = value <= HIDES
    return bool((hidden | (value == 0)).all()) and bool(hidden.any())


def _row(value: Tensor, tokens: int) -> Tensor:
    return value.reshape(len(value), tokens)


def _additive(value: Tensor, tokens: int) -> Tensor:
    return _row(value, tokens) == 0


def _lengths(value: Tensor, tokens: int) -> Tensor:
    return torch.arange(tokens, device=value.device) < value.reshape(-1, 1)


def _square(value: Tensor, tokens: int) -> Tensor:
    """Whether the token of a row sees that of a column, ``(N, T, T)``, with any head."""
    sees = value == 0 if is_additive(value) else value != 0
    return sees.reshape(len(value), -1, tokens, tokens).any(dim=1)


def _seen(value: Tensor, tokens: int) -> Tensor:
    return _square(value, tokens).any(dim=1)


def _seen_by_others(value: Tensor, tokens: int) -> Tensor:
    sees = _square(value, tokens)
    return (sees & ~torch.eye(tokens, dtype=torch.bool, device=value.device)).any(dim=1)


FORMS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "keep": lambda value, tokens: _row(value, tokens) != 0,
    "padding": lambda value, tokens: _row(value, tokens) == 0,
    "additive": _additive,
    "seen": _seen,
    "seen by others": _seen_by_others,
    "seen by any other": _seen_by_others,
    "hidden from none": lambda value, tokens: _seen_by_others(value == 0, tokens),
    "not always hidden": lambda value, tokens: _seen(value == 0, tokens),
    "lengths": _lengths,
}
"""Ones at the tokens that count, or at padding, ``(N, T)`` with any axes of size 1 between; 0 at
the tokens that count and −∞ at the others; what tokens see of each other, or what is hidden from
them, ``(N, …, T, T)``; the number of tokens that count, ``(N,)``."""
