"""One call at a time on one model: calls that share a module or a parameter wait for each other.

Nothing is set on the user's modules: the claims stand in a table of this process, so a model can
be copied and pickled while it is explained. A call takes all it needs at once, so two calls never
hold half each; where calls are nested and do so all the same, the second is refused.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from torch import nn

from captum_ib.hooks.undo import Undo

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
    """All claims, and what the threads that wait are waiting for. To be used under ``lock``.

    The lock is one of C: an interrupt can't come between taking it and the ``with`` that frees it.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.claims: list[_Claim] = []
        self.waiting: dict[threading.Thread, frozenset[int]] = {}

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


def _after_fork() -> None:
    """The lock may have been held by a thread that the child does not have."""
    _table.lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def claim(undo: Undo, modules: Sequence[nn.Module]) -> None:
    """Have the modules, and all in them, to this thread until ``undo`` puts things back.

    A thread may claim again what it has already.

    Raises:
        RuntimeError: another thread has them, and waits itself for something this thread has.
    """
    parts = frozenset(
        id(part) for module in modules for part in (*module.modules(), *module.parameters())
    )
    wanted = _Claim(threading.current_thread(), list(modules), parts, undo)
    undo.note(partial(_release, wanted))
    while not _granted(wanted):
        time.sleep(POLL)


def _granted(wanted: _Claim) -> bool:
    with _table.lock:
        others = _table.in_the_way(wanted.thread, wanted.parts)
        for dead in [other for other in others if not other.thread.is_alive()]:
            dead.undo.restore()  # its end was interrupted, and nobody is left to do it
            others.remove(dead)
        if not others:
            _table.waiting.pop(wanted.thread, None)
            _table.claims.append(wanted)
            return True
        _table.waiting[wanted.thread] = wanted.parts
        if _table.circular(wanted.thread):
            raise RuntimeError(
                "two threads wait for each other's models: each explains one model and has begun "
                "to explain the other's inside; explain them one after the other, or in one thread"
            )
        return False


def _release(claim: _Claim) -> None:
    with _table.lock:
        _table.waiting.pop(claim.thread, None)
        if claim in _table.claims:
            _table.claims.remove(claim)
