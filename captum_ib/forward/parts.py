"""The one loop over samples in parts, and what happens after every step: a bar, a look to stop."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from captum_ib.checks import require_size
from captum_ib.forward.call import Call
from captum_ib.hooks import check_stop

CallT = TypeVar("CallT", bound=Call)
ItemT = TypeVar("ItemT")

Tick = Callable[..., object]
"""To be called after every step, with the number of steps done (default 1)."""


def samples_at_once(n: int, internal_batch_size: int | None, rows_per_sample: int = 1) -> int:
    """How many of ``n`` samples fit into ``internal_batch_size`` rows; at least one.

    Raises:
        TypeError, ValueError: an ``internal_batch_size`` that is no positive int.
    """
    size = require_size("internal_batch_size", internal_batch_size)
    return n if size is None else min(n, max(1, size // rows_per_sample))


def in_parts(call: CallT, size: int) -> Iterator[CallT]:
    """A call's samples, at most ``size`` at a time; each part looks whether to stop."""
    for start in range(0, call.n, size):
        check_stop()
        yield call.part(start, start + size)


def watched(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """The items of a long loop, with a look whether to stop before each."""
    for item in items:
        check_stop()
        yield item


@contextmanager
def progress(total: int, name: str, show: bool) -> Generator[Tick]:
    """A function to be called after every step, with the number of steps done (default 1).

    It raises ``captum_ib.hooks.Stopped`` when the call is to end.
    """
    if not show:
        yield _tick
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=name, unit="step") as bar:

        def tick(steps: int = 1) -> None:
            bar.update(steps)
            check_stop()

        yield tick


def _tick(steps: int = 1) -> None:
    check_stop()
