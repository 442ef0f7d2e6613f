"""``captum-ib benchmark``: runs from a file, a preset or flags, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from captum_ib.benchmark import PRESETS, DataConfig, RunConfig, load_config, preset, preset_title
from captum_ib.studies import STUDIES, Study

DEFAULT_METRICS = ("insertion", "deletion", "insdel")
"""What judges the maps when flags describe a run and name no metric."""

_SHAPE = ("model", "data", "method", "metric")
_RUNNING = ("seeds", "samples", "batch_size", "device", "dtype")


def run(
    config: Path | None,
    preset_name: str | None,
    flags: Mapping[str, Any],
    out: Path,
    *,
    dry_run: bool = False,
    ray: str | None = None,
    workers: int | None = None,
    command: Sequence[str] = (),
) -> None:
    """Carry out runs; prints the tables, or, for a dry run, what it would take.

    Args:
        config: a file that describes them.
        preset_name: of runs that come with the package.
        flags: what describes or changes them; ``None`` and empty lists stand for nothing given.
        out: folder for the results.
        dry_run: only estimate time and memory.
        ray: where to work on Ray.
        workers: how many of them, on Ray.
        command: the command line, for the record.

    Raises:
        ValueError, OSError, RuntimeError: one of the user's inputs does not work.
        typer.Exit: the user interrupted the run.
    """
    if preset_name in STUDIES:
        _study(STUDIES[preset_name], flags, out, command)
        return
    if workers is not None and ray is None:
        raise ValueError("--workers is how many of them work on Ray: give --ray too")
    if dry_run and ray is not None:
        raise ValueError("--dry-run measures in this process, not on Ray: leave one of them out")
    runs = configured(config, preset_name, flags)
    if dry_run:
        _estimate(runs)
        return
    from captum_ib.benchmark.run import run as carry_out
    from captum_ib.report import summary as tables

    execute = None
    if ray is not None:
        from captum_ib.benchmark.distributed import on_ray

        execute = on_ray(ray, workers)
    folders = [out / each.title if len(runs) > 1 else out for each in runs]
    for each, folder in zip(runs, folders, strict=True):
        try:
            summary = carry_out(each, folder, execute=execute, command=command)
        except KeyboardInterrupt:
            typer.echo(
                f"captum-ib: interrupted; what was done is in {folder}, and the same command goes "
                "on from there",
                err=True,
            )
            raise typer.Exit(130) from None
        typer.echo(str(summary))
    # A paper's table is read for differences, whose errors are those of pairs.
    typer.echo("\n" + tables(folders, paired=preset_name is not None))
    typer.echo(f"figures and pictures: captum-ib report {out}")


def configured(
    config: Path | None, preset_name: str | None, flags: Mapping[str, Any]
) -> list[RunConfig]:
    """The runs that were asked for; arguments as for :func:`run`.

    Raises:
        ValueError: nothing, or two things, describe the run; a flag has a wrong value.
    """
    given = {name: value for name, value in flags.items() if value not in (None, [])}
    if config is not None and preset_name is not None:
        raise ValueError("give either a config file or --preset, not both")
    if config is None and preset_name is None:
        return [_from_flags(given)]
    for name in _SHAPE if config is not None else ("method", "metric"):
        if name in given:
            changes = ", ".join("--" + flag.replace("_", "-") for flag in _RUNNING)
            raise ValueError(
                f"--{name} describes a run, and so does the file: leave one of them out (of a "
                f"file's run, flags may change {changes})"
            )
    runs = load_config(config) if config is not None else preset(preset_name or "")
    if "data" in given:
        given["data"] = _data(given["data"])
    return [RunConfig.from_dict({**each.to_dict(), **given}) for each in runs]


def list_presets() -> str:
    """What ``--preset`` takes, one per line: runs of methods and metrics, then studies."""
    runs = {name: preset_title(name) for name in PRESETS}
    studies = {name: f"{study.title} ({study.paper})" for name, study in STUDIES.items()}
    width = max(map(len, [*runs, *studies]))
    return "\n".join(f"{name:{width}}  {what}" for name, what in {**runs, **studies}.items())


def _study(study: Study, flags: Mapping[str, Any], out: Path, command: Sequence[str]) -> None:
    """Carry out a study; prints its page and where it is."""
    from captum_ib.studies.material import gather

    given = {name: value for name, value in flags.items() if value not in (None, [])}
    for name in ("method", "metric"):
        if name in given:
            raise ValueError(
                f"--preset {study.name} has methods and metrics of its own: leave --{name} out"
            )
    seeds = given.get("seeds", [0])
    if len(seeds) > 1:
        raise ValueError(f"--preset {study.name} takes one seed, given {len(seeds)}")
    own = {"kind": study.data, "options": study.options}
    data = DataConfig(**(_data(given["data"]) if "data" in given else own))
    settings = {name: given[name] for name in ("batch_size", "device", "dtype") if name in given}
    model, count = given.get("model", study.model), given.get("samples", study.samples)
    typer.echo(f"loading {model}", err=True)
    material = gather(
        model,
        data,
        samples=count,
        seed=seeds[0],
        tell=lambda line: typer.echo(line, err=True),
        **settings,
    )
    title = f"{study.title} ({study.paper})"
    record = {
        "model": model,
        "data": data.kind,
        "samples": len(material),
        "seed": seeds[0],
        "command": list(command),
    }
    files = study(material).write(out, study.name, title, record)
    typer.echo(files[0].read_text(encoding="utf-8"))
    typer.echo("\n".join(map(str, files)))


def _estimate(runs: Sequence[RunConfig]) -> None:
    from captum_ib.benchmark.estimate import estimate

    for each in runs:
        if len(runs) > 1:
            typer.echo(f"{each.title}:")
        typer.echo(str(estimate(each)))


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
            "methods": given["method"],
            "metrics": given.get("metric", DEFAULT_METRICS),
        }
    )


def _data(text: str) -> dict[str, Any]:
    """``KIND`` or ``KIND:PATH``.

    >>> _data("folder:images/birds")
    {'kind': 'folder', 'path': 'images/birds'}
    """
    kind, colon, path = text.partition(":")
    return {"kind": kind, "path": path} if colon else {"kind": kind}
