"""Say how far a method is while it runs: answers as they come, steps and seconds in between."""

from __future__ import annotations

import queue
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from captum_ib.app.asking import Answer
from captum_ib.forward import counting

EVERY = 0.5
"""Seconds between two pulses."""


@dataclass(frozen=True)
class Pulse:
    """How far a method is.

    Attributes:
        seconds: since it was begun, the wait for the model too.
        done: its steps so far.
        total: of all its steps; 0 while none is known, and for methods without steps.
    """

    seconds: float
    done: int = 0
    total: int = 0


class _Clock:
    """Steps and seconds of the method that runs."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """The next method begins."""
        self._since, self._steps = time.monotonic(), (0, 0)

    def told(self, done: int, total: int) -> None:
        """After a step."""
        self._steps = (done, total)

    @property
    def pulse(self) -> Pulse:
        """How far it is now."""
        return Pulse(time.monotonic() - self._since, *self._steps)


def with_pulse(answers: Iterator[Answer], every: float = EVERY) -> Iterator[Answer | Pulse]:
    """The answers, and a pulse wherever the next one takes longer.

    They are computed in a thread of their own, which ends when they do: whoever stops listening
    has to set the event that stops them.

    Args:
        answers: as :func:`captum_ib.app.asking.answer` gives them.
        every: seconds.

    Raises:
        Exception: what the answers raise.
    """
    clock = _Clock()
    found: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            with counting(clock.told):
                for one in answers:
                    clock.restart()
                    found.put(one)
        finally:
            found.put(None)

    thread = ThreadPoolExecutor(1, "captum-ib-answers")
    working = thread.submit(work)
    thread.shutdown(wait=False)  # it ends with its work
    while True:
        try:
            one = found.get(timeout=every)
        except queue.Empty:
            yield clock.pulse
            continue
        if one is None:
            working.result()  # raises what was raised there
            return
        yield one
