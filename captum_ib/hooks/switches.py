"""Two shortcuts of torch that hide a model's inside, off while a model is borrowed.

``nn.TransformerEncoder`` turns padded batches into nested tensors, and its layers run in one kernel
that calls no module; gradient checkpointing runs parts of the model again in the backward pass,
when hooks are gone. Both give the same numbers without. They are the process's, not the model's, so
they come back when the last thread is done; checkpointing of other threads goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils import checkpoint as checkpointing

from captum_ib.hooks.undo import Undo

_NON_REENTRANT = (
    "_checkpoint_without_reentrant_generator",
    "_checkpoint_without_reentrant_generator_impl",
)
"""What ``torch.utils.checkpoint.checkpoint`` looks up at every call, by version of torch."""

_lock = threading.RLock()
_users: dict[object, int] = {}  # one entry per borrowed model → its thread
_back: list[Callable[[], object]] = []


def shortcuts_off(undo: Undo) -> None:
    """Run the plain way until ``undo`` puts things back."""
    user = object()
    undo.note(partial(_leave, user))
    with _lock:
        _users[user] = threading.get_ident()
        if not _back:
            _back.append(
                partial(
                    torch.backends.mha.set_fastpath_enabled,
                    torch.backends.mha.get_fastpath_enabled(),
                )
            )
            torch.backends.mha.set_fastpath_enabled(False)
            _replace("CheckpointFunction", _Reentrant(checkpointing.CheckpointFunction))
            for name in _NON_REENTRANT:
                if hasattr(checkpointing, name):
                    _replace(name, partial(_non_reentrant, getattr(checkpointing, name)))


def _leave(user: object) -> None:
    with _lock:
        _users.pop(user, None)
        while _back and not _users:
            _back[-1]()
            _back.pop()


def _replace(name: str, value: Any) -> None:
    _back.append(partial(setattr, checkpointing, name, getattr(checkpointing, name)))
    setattr(checkpointing, name, value)


def _off() -> bool:
    return threading.get_ident() in _users.values()


class _Reentrant:
    """Stands in for ``CheckpointFunction``."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def apply(self, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        """The function's result, with its graph instead of a second run."""
        if _off():
            return function(*args)
        return self.original.apply(function, preserve, *args)


def _non_reentrant(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[None]:
    """Stands in for the generator around the function: set up, run, tear down."""
    return _nothing() if _off() else original(*args, **kwargs)


def _nothing() -> Iterator[None]:
    yield
