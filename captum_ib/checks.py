"""Checks of plain arguments, each with one message: what was given, what was expected."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from numbers import Real
from typing import Any, Literal, TypeGuard

import torch
from torch import Tensor


def is_tuple(value: object) -> TypeGuard[tuple[Any, ...]]:
    """A tuple, of anything."""
    return isinstance(value, tuple)


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """A tuple or list, of anything."""
    return isinstance(value, (tuple, list))


def require_count(name: str, value: object, least: int = 1) -> int:
    """A whole number of at least ``least``.

    Raises:
        TypeError: no int.
        ValueError: a smaller one.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, given {type(value).__name__}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, given {value}")
    return value


AUTO = "auto"
BatchSize = int | Literal["auto"] | None
"""Rows per forward pass; ``None``: all; ``"auto"``: all, then half, until they fit into memory."""


def require_size(name: str, value: BatchSize) -> int | None:
    """A batch size: a positive int, or ``None`` (also for ``"auto"``) for everything at once.

    Raises:
        TypeError, ValueError: as :func:`require_count`.
    """
    return None if value is None or value == AUTO else require_count(name, value)


def require_choice(name: str, value: object, allowed: Collection[object]) -> None:
    """Raise ``ValueError`` unless the value is one of those allowed."""
    if value not in allowed:
        known = [f'"{one}"' if isinstance(one, str) else str(one) for one in allowed]
        listed = " or ".join(known) if len(known) < 3 else f"one of {', '.join(known)}"
        raise ValueError(f"{name} must be {listed}, given {value!r}")


def require_weight(name: str, value: float, *, positive: bool = False) -> float:
    """A finite number that is not negative, or (``positive``) above 0.

    Raises:
        TypeError: no number.
        ValueError: another one.
    """
    if not isinstance(value, (Real, Tensor)):
        raise TypeError(f"{name} must be a number, given {type(value).__name__}")
    if not (value > 0 or (value == 0 and not positive)) or value == float("inf"):
        wanted = "positive and finite" if positive else "finite and not negative"
        raise ValueError(f"{name} must be {wanted}, given {value}")
    return float(value)


def require_finite(value: Tensor, name: str) -> None:
    """Raise ``ValueError`` naming the tensor when it holds NaN or inf."""
    if value.is_floating_point() and not bool(value.isfinite().all()):
        count = int((~value.isfinite()).sum())
        raise ValueError(
            f"{name} holds {count} NaN or infinite value(s) of {value.numel()}; attributions of "
            "them would mean nothing"
        )


def broadcast(baseline: object, values: Tensor, of: str) -> Tensor:
    """A baseline (``None``: 0) expanded to some values, in their type.

    Args:
        baseline: as the user gave it.
        values: what it belongs to.
        of: what errors call them.

    Raises:
        TypeError: neither a number nor a tensor; fractions for token ids.
        ValueError: NaN or inf; a shape that does not broadcast.
    """
    baseline = 0 if baseline is None else baseline
    if isinstance(baseline, bool) or not isinstance(baseline, (int, float, Tensor)):
        raise TypeError(
            f"baselines must be a number or a tensor shaped like {of}, given "
            f"{type(baseline).__name__}"
        )
    given = torch.as_tensor(baseline, device=values.device).detach()
    if given.is_floating_point() and not values.is_floating_point():
        raise TypeError("baselines of token ids must be ids, given floating-point numbers")
    require_finite(given, "baselines")
    try:
        return given.to(values.dtype).expand_as(values)
    except RuntimeError as error:
        raise ValueError(
            f"baselines of shape {tuple(given.shape)} do not broadcast to {of}, "
            f"{tuple(values.shape)}"
        ) from error


def nearest(name: str, names: Sequence[str], most: int = 3) -> str:
    """The names that a mistyped one is closest to, for an error; "none" when it is close to none.

    >>> nearest("vit_smal", ["vit_small", "resnet18"])
    'vit_small'
    """
    return ", ".join(get_close_matches(name, names, n=most, cutoff=0.4)) or "none"
