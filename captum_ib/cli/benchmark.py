"""``captum-ib benchmark``: runs from a file, a preset or flags, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from captum_ib.benchmark import PRESETS, RunConfig, load_config, preset

DEFAULT_METRICS = ("insertion", "deletion", "insdel")
"""What judges the maps when flags describe a run and name no metric."""

_SHAPE = ("model", "data", "method", "metric")
_RUNNING = ("seeds", "samples", "batch_size", "device", "dtype")


@dataclass(frozen=True)
class Request:
    """What the command line asked for; ``None`` and empty lists stand for what was not given."""

    config: Path | None
    preset: str | None
    flags: Mapping[str, Any]
    out: Path
    dry_run: bool = False
    ray: str | None = None
    workers: int | None = None

    def command(self) -> list[str]:
        """The command line, for the record."""
        words = ["captum-ib", "benchmark"]
        if self.config is not None:
            words.append(str(self.config))
        if self.preset is not None:
            words += ["--preset", self.preset]
        for name, value in self.flags.items():
            if value not in (None, []):
                values = value if isinstance(value, list) else [value]
                words += [f"--{name.replace('_', '-')}", *map(str, values)]
        if self.ray is not None:
            words += ["--ray", self.ray]
        return [*words, "--out", str(self.out)]


def run(request: Request) -> None:
    """Carry out a request; prints the tables, or, for a dry run, what it would take.

    Raises:
        ValueError, OSError, RuntimeError: one of the user's inputs does not work.
        typer.Exit: the user interrupted the run.
    """
    if request.workers is not None and request.ray is None:
        raise ValueError("--workers is how many of them work on Ray: give --ray too")
    if request.dry_run and request.ray is not None:
        raise ValueError("--dry-run measures in this process, not on Ray: leave one of them out")
    runs = configured(request)
    if request.dry_run:
        from captum_ib.benchmark.estimate import estimate

        for config in runs:
            if len(runs) > 1:
                typer.echo(f"{config.title}:")
            typer.echo(str(estimate(config)))
        return
    from captum_ib.benchmark.run import run as carry_out
    from captum_ib.report import summary as tables

    execute = None
    if request.ray is not None:
        from captum_ib.benchmark.distributed import on_ray

        execute = on_ray(request.ray, request.workers)
    folders = [request.out / config.title if len(runs) > 1 else request.out for config in runs]
    for config, folder in zip(runs, folders, strict=True):
        try:
            summary = carry_out(config, folder, execute=execute, command=request.command())
        except KeyboardInterrupt:
            typer.echo(
                f"captum-ib: interrupted; what was done is in {folder}, and the same command goes "
                "on from there",
                err=True,
            )
            raise typer.Exit(130) from None
        typer.echo(str(summary))
    typer.echo("\n" + tables(folders))
    typer.echo(f"figures and pictures: captum-ib report {request.out}")


def configured(request: Request) -> list[RunConfig]:
    """The runs that were asked for.

    Raises:
        ValueError: nothing, or two things, describe the run; a flag has a wrong value.
    """
    given = {name: value for name, value in request.flags.items() if value not in (None, [])}
    if request.config is not None and request.preset is not None:
        raise ValueError("give either a config file or --preset, not both")
    if request.config is None and request.preset is None:
        return [_from_flags(given)]
    for name in _SHAPE:
        if name in given:
            changes = ", ".join("--" + flag.replace("_", "-") for flag in _RUNNING)
            raise ValueError(
                f"--{name} describes a run, and so does the file: leave one of them out (of a "
                f"file's run, flags may change {changes})"
            )
    if request.config is not None:
        runs = load_config(request.config)
    else:
        runs = preset(request.preset or "")
    return [RunConfig.from_dict({**run.to_dict(), **given}) for run in runs]


def _from_flags(given: Mapping[str, Any]) -> RunConfig:
    if "model" not in given or "method" not in given:
        raise ValueError(
            "say what to run: a config file, --preset "
            f"({', '.join(PRESETS)}), or --model and --method"
        )
    values = {name: given[name] for name in _RUNNING if name in given}
    return RunConfig.from_dict(
        {
            **values,
            "model": given["model"],
            "data": _data(given.get("data", "scenes")),
            "methods": _names(given["method"]),
            "metrics": _names(given.get("metric", DEFAULT_METRICS)),
        }
    )


def _data(text: str) -> dict[str, Any]:
    """``KIND`` or ``KIND:PATH``.

    >>> _data("folder:images/birds")
    {'kind': 'folder', 'path': 'images/birds'}
    """
    kind, colon, path = text.partition(":")
    return {"kind": kind, "path": path} if colon else {"kind": kind}


def _names(given: Sequence[str]) -> list[str]:
    return [name for entry in given for name in entry.split(",") if name]
