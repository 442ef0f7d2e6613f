"""What calls in several threads share: models, two switches of torch's, and the word to stop.

Calls that share a module or a parameter wait for each other. Nothing is set on the user's modules:
the claims stand in a table of this process, so a model can be copied and pickled while it is
explained. A call takes all it needs at once, so two calls never hold half each; where calls are
nested and do so all the same, the second is refused.
"""

# What is to be put back for all is looked at here.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.utils import checkpoint as checkpointing

from captum_ib.hooks.undo import Undo, lock

POLL = 0.005
"""Seconds between two looks at a claim of another thread."""


@dataclass(eq=False)
class _Claim:
    """What one call has to itself; ``modules`` are kept, so that the ids stay theirs."""

    thread: threading.Thread
    modules: Sequence[nn.Module]
    parts: frozenset[int]
    undo: Undo


class _Table:
    """What all threads see. To be used under ``lock``.

    Attributes:
        claims: what calls have to themselves.
        waiting: what the threads that wait are waiting for.
        plain: the thread of every borrowed model: these run without torch's shortcuts.
        shortcuts: puts these on again.
    """

    def __init__(self) -> None:
        self.claims: list[_Claim] = []
        self.waiting: dict[threading.Thread, frozenset[int]] = {}
        self.plain: dict[object, int] = {}
        self.shortcuts = Undo()

    def in_the_way(self, thread: threading.Thread, parts: frozenset[int]) -> list[_Claim]:
        return [
            claim for claim in self.claims if claim.thread is not thread and claim.parts & parts
        ]

    def circular(self, thread: threading.Thread) -> bool:
        """Whether this thread waits for one that waits, at the end of a chain, for this thread."""
        seen: set[threading.Thread] = set()
        ahead = [thread]
        while ahead:
            one = ahead.pop()
            owners = {c.thread for c in self.in_the_way(one, self.waiting.get(one, frozenset()))}
            if thread in owners:
                return True
            ahead += owners - seen
            seen |= owners
        return False


_table = _Table()


def claim(undo: Undo, modules: Sequence[nn.Module]) -> None:
    """Have the modules, and all in them, to this thread until ``undo`` puts things back.

    A thread may claim again what it has already.

    Raises:
        RuntimeError: another thread has them, and waits itself for something this thread has.
    """
    parts = frozenset(
        id(part) for module in modules for part in (*module.modules(), *module.parameters())
    )
    thread = threading.current_thread()
    wanted = _Claim(thread, list(modules), parts, undo)
    undo.note(partial(_release, wanted))
    while True:
        with lock:
            others = _table.in_the_way(thread, parts)
            for dead in [other for other in others if not other.thread.is_alive()]:
                dead.undo.restore()  # its end was interrupted, and nobody is left to do it
                others.remove(dead)
            if not others:
                _table.waiting.pop(thread, None)
                _table.claims.append(wanted)
                return
            _table.waiting[thread] = parts
            if _table.circular(thread):
                raise RuntimeError(
                    "two threads wait for each other's models: each explains one model and has "
                    "begun to explain the other's inside; explain them one after the other, or in "
                    "one thread"
                )
        time.sleep(POLL)


def _release(claim: _Claim) -> None:
    with lock:
        _table.waiting.pop(claim.thread, None)
        if claim in _table.claims:
            _table.claims.remove(claim)


_NON_REENTRANT = (
    "_checkpoint_without_reentrant_generator",
    "_checkpoint_without_reentrant_generator_impl",
)
"""What ``torch.utils.checkpoint.checkpoint`` looks up at every call, by version of torch."""


def shortcuts_off(undo: Undo) -> None:
    """Run without two shortcuts that hide a model's inside, until ``undo`` puts things back.

    ``nn.TransformerEncoder`` turns padded batches into nested tensors, and its layers run in one
    kernel that calls no module; gradient checkpointing runs parts of the model again in the
    backward pass, when hooks are gone. Both give the same numbers without. They are the process's,
    not the model's, so they come back when the last thread is done; checkpointing of other threads
    goes on.
    """
    user = object()
    undo.note(partial(_done, user))
    with lock:
        _table.plain[user] = threading.get_ident()
        back = _table.shortcuts
        if back._steps:
            return
        mha = torch.backends.mha
        back.note(partial(mha.set_fastpath_enabled, mha.get_fastpath_enabled()))
        mha.set_fastpath_enabled(False)
        back.keep(checkpointing, "CheckpointFunction")
        original: Any = checkpointing.CheckpointFunction
        plain: Any = SimpleNamespace(apply=partial(_reentrant, original))
        checkpointing.CheckpointFunction = plain
        for name in _NON_REENTRANT:
            if hasattr(checkpointing, name):
                back.keep(checkpointing, name)
                plain = partial(_non_reentrant, getattr(checkpointing, name))
                setattr(checkpointing, name, plain)


def _done(user: object) -> None:
    with lock:
        _table.plain.pop(user, None)
        if not _table.plain:
            _table.shortcuts.restore()


def _reentrant(original: Any, function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
    """Stands in for ``CheckpointFunction.apply``: a graph instead of a second run."""
    if threading.get_ident() in _table.plain.values():
        return function(*args)
    return original.apply(function, preserve, *args)


def _non_reentrant(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[None]:
    """Stands in for the generator around the function: set up, run, tear down."""
    off = threading.get_ident() in _table.plain.values()
    return iter((None,)) if off else original(*args, **kwargs)


_EVENTS: ContextVar[tuple[threading.Event, ...]] = ContextVar("captum_ib_stop", default=())


class Stopped(RuntimeError):
    """A method ended between two steps, because somebody asked for it."""


@contextmanager
def stopping(event: threading.Event) -> Generator[None]:
    """While this is open, methods of this thread raise :class:`Stopped` once ``event`` is set.

    The model comes back as it was, as after any other error. Blocks may be nested: each event
    counts.

    Args:
        event: set by another thread, when the result is no longer wanted.

    Example:
        >>> import threading
        >>> event = threading.Event()
        >>> with stopping(event):
        ...     check_stop()
        ...     event.set()
        ...     check_stop()
        Traceback (most recent call last):
        captum_ib.hooks.threads.Stopped: stopped between two steps, as was asked
    """
    token = _EVENTS.set((*_EVENTS.get(), event))
    try:
        yield
    finally:
        _EVENTS.reset(token)


def check_stop() -> None:
    """What a method calls between its steps.

    Raises:
        Stopped: an event of :func:`stopping` is set.
    """
    if any(event.is_set() for event in _EVENTS.get()):
        raise Stopped("stopped between two steps, as was asked")
