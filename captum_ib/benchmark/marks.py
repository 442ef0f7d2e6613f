"""What a reader of files hands on: plain values, and the line on which each of them stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from captum_ib.benchmark.checks import Where


class FormatError(ValueError):
    """A text is not in its format, or holds what this reader refuses.

    Attributes:
        problem: in words.
        line: counted from 1; ``None`` when unknown.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.line = problem, line


@dataclass(frozen=True)
class Marked:
    """Plain values and their lines.

    Attributes:
        values: what the text says.
        lines: the line of a value by the way to it; of its key, where it has one.
    """

    values: Any
    lines: Callable[[Where], int | None]

    def line(self, where: Where) -> int:
        """The line of a value, counted from 1; of what it is missing in, when it is not there."""
        for length in range(len(where), 0, -1):
            line = self.lines(where[:length])
            if line is not None:
                return line
        return 1
