"""Memory: a method that runs out of it tries again with half the rows, and says what would fit."""

from __future__ import annotations

import functools
import gc
import inspect
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch

from captum_ib.checks import AUTO

_Function = TypeVar("_Function", bound=Callable[..., Any])

_ROWS: ContextVar[list[int] | None] = ContextVar("captum_ib_rows", default=None)


def note_rows(rows: int) -> None:
    """Say how many rows a forward pass is about to have."""
    seen = _ROWS.get()
    if seen is not None:
        seen[0] = max(seen[0], rows)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error is the device's, or the machine's, lack of memory, or was caused by it."""
    while True:
        if isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)):
            return True
        # What torch says of CPUs has no class of its own.
        if isinstance(error, RuntimeError) and "not enough memory" in str(error):
            return True
        if error.__cause__ is None:
            return False
        error = error.__cause__


def fitted_to_memory(function: _Function) -> _Function:
    """``attribute`` with ``internal_batch_size="auto"``, and a word to who runs out of memory.

    With ``"auto"`` everything is tried at once; when memory runs out, the random generators are put
    back and half of the rows that the largest pass had are tried, and so on: the result is that of
    the size that fits, and so the same.
    """
    names = list(inspect.signature(function).parameters)
    if "internal_batch_size" not in names:
        return function
    place = names.index("internal_batch_size")

    @functools.wraps(function)
    def sized(*args: Any, **kwargs: Any) -> Any:
        if len(args) > place:  # given by its place
            kwargs = {**dict(zip(names[place:], args[place:], strict=False)), **kwargs}
            args = args[:place]
        auto, size = kwargs.get("internal_batch_size") == AUTO, None
        while True:
            seen = [0]
            generators = _generators() if auto else None
            token = _ROWS.set(seen)
            try:
                return function(*args, **kwargs)
            except (RuntimeError, ValueError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                last = seen[0] or _samples(args, kwargs)
                rows = last if size is None else min(last, size)
                if not auto or rows < 2:
                    raise _told(last, auto) from error
            finally:
                _ROWS.reset(token)
            # Behind the handler: the error holds on to the tensors of its frames.
            _put_back(generators)
            _free()
            size = kwargs["internal_batch_size"] = rows // 2

    return cast(_Function, sized)


def _samples(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """The samples of a call, behind ``self``."""
    inputs = kwargs.get("inputs", args[1] if len(args) > 1 else None)
    every = cast("tuple[object, ...]", inputs if isinstance(inputs, tuple) else (inputs,))
    sizes = [len(one) for one in every if isinstance(one, torch.Tensor) and one.ndim]
    return max(sizes, default=0)


def _told(rows: int, auto: bool) -> RuntimeError:
    mend = "one row at a time is too many: take a smaller model or input, dtype=bfloat16, or a CPU"
    if rows > 1 and not auto:
        mend = (
            f'pass internal_batch_size="auto", which halves until it fits, or at most {rows // 2}'
        )
    elif not auto:
        mend = f'pass internal_batch_size="auto"; {mend}'
    return torch.cuda.OutOfMemoryError(
        f"out of memory with {rows} row{'s' * (rows != 1)} (samples · draws or points) in one "
        f"forward pass; {mend}"
    )


def _generators() -> tuple[torch.Tensor, list[torch.Tensor]]:
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    return torch.get_rng_state(), cuda


def _put_back(states: tuple[torch.Tensor, list[torch.Tensor]] | None) -> None:
    if states is None:
        return
    torch.set_rng_state(states[0])
    if states[1]:
        torch.cuda.set_rng_state_all(states[1])


def _free() -> None:
    gc.collect()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
