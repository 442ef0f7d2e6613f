"""End a running method from outside, between two of its steps."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar

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
        captum_ib.hooks.stop.Stopped: stopped between two steps, as was asked
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
