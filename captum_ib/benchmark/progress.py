"""How far a run is, on stderr: a bar on a terminal, in a log file a line per finished part."""

from __future__ import annotations

import sys
import time
from datetime import timedelta
from typing import Any


class Progress:
    """Counts what is done.

    Args:
        title: of the run.
        total: how many there are.
        initial: how many were there before.
        unit: what is counted.
        shown: ``True``: a bar; ``False``: nothing; ``None``: a bar on a terminal, else lines.
    """

    def __init__(
        self, title: str, total: int, initial: int, unit: str, shown: bool | None = None
    ) -> None:
        from tqdm.auto import tqdm

        self._title, self._started = title, time.monotonic()
        terminal = sys.stderr.isatty()
        self._lines = shown is None and not terminal
        self._bar: Any = tqdm(
            total=total,
            initial=initial,
            desc=title,
            unit=unit,
            disable=not (terminal if shown is None else shown),
            smoothing=0.1,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def add(self, count: int, part: str) -> None:
        """So many more are done.

        Args:
            count: how many.
            part: what was finished, for a log file.
        """
        self._bar.update(count)
        if self._lines:
            elapsed = timedelta(seconds=round(time.monotonic() - self._started))
            sys.stderr.write(f"{self._title}: {part} done after {elapsed}\n")
            sys.stderr.flush()

    def reach(self, count: int) -> None:
        """So many are done at least."""
        self._bar.update(max(0, count - self._bar.n))
