"""After every step of a call: a progress bar on request, and a look whether to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from captum_ib.hooks import check_stop


@contextmanager
def progress(total: int, name: str, show: bool) -> Iterator[Callable[..., object]]:
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
