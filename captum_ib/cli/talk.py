"""What the shell says while it works, on stderr: what is loaded, which step runs, how long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import typer


def say(text: str) -> None:
    """A line on stderr, at once."""
    typer.echo(text, err=True)
    sys.stderr.flush()


class Steps:
    """Numbered steps: on a terminal a line when one begins, else a line when it is done.

    Args:
        total: how many there will be.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Run a step; nothing is said of one that fails."""
        self.done += 1
        head = f"[{self.done}/{self.total}] {name}"
        shown, start = sys.stderr.isatty(), time.perf_counter()
        if shown:
            say(head)
        yield
        if not shown:
            say(f"{head}: {time.perf_counter() - start:.1f} s")
