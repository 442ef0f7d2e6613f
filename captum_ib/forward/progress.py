"""A progress bar over the steps of a call, on request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress(total: int, name: str, show: bool) -> Iterator[Callable[..., object] | None]:
    """A function to be called after every step, or ``None`` when nothing is to be shown."""
    if not show:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=name, unit="step") as bar:
        yield bar.update
