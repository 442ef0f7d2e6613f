"""``captum-ib report``: tables, figures and a gallery from the folders of benchmark runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer


@dataclass(frozen=True)
class Request:
    """What the command line asked for; see ``captum_ib.report.make_report``."""

    runs: Sequence[Path]
    out: Path
    formats: Sequence[str]
    samples: int
    paired: bool
    seed: int


def run(request: Request) -> None:
    """Write a report; prints the tables and what was written.

    Raises:
        ValueError, OSError, RuntimeError: a folder holds no run, or can't be read or written.
    """
    from captum_ib.report import FORMATS, make_report

    text, files = make_report(
        request.runs,
        request.out,
        formats=request.formats or FORMATS,
        samples=request.samples,
        paired=request.paired,
        seed=request.seed,
    )
    typer.echo(text)
    for file in files:
        typer.echo(str(file))
