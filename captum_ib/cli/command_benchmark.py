"""``captum-ib benchmark``: what it can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from captum_ib.cli.arguments import Traceback, names, one_line


def benchmark_command(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Argument(help="YAML or TOML file that describes the run(s)")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(help="a table or figure that comes with the package, see --list-presets"),
    ] = None,
    list_presets: Annotated[
        bool, typer.Option("--list-presets", help="only say which presets there are")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="folder for the results; the same command goes on in it")
    ] = Path("benchmark"),
    model: Annotated[str | None, typer.Option(help="instead of a file: as for explain")] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="scenes (default), or folder:PATH, table:PATH, segmentation:PATH, voc:PATH, "
            "funnybirds:PATH"
        ),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="method(s), see `captum-ib methods`, and random")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="metric(s) (default: insertion deletion insdel)")
    ] = None,
    seeds: Annotated[list[int] | None, typer.Option(help="of the noise (default: 0)")] = None,
    samples: Annotated[int | None, typer.Option(help="how many, at most")] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="samples at once (default: 8); changes no number")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu (default), cuda, cuda:1, ...")] = None,
    dtype: Annotated[
        str | None, typer.Option(help="float32 (default), bfloat16 or float16")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(help="on a Ray cluster: alone for one on this machine, auto, or host:port"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="with --ray (default: one per GPU, or per CPU)")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only estimate time and memory")
    ] = False,
    traceback: Traceback = False,
) -> None:
    """Judge methods on many samples, as a paper's table does; resumes where it stopped."""
    with one_line(traceback):
        from captum_ib.cli import benchmark as runs

        if list_presets:
            typer.echo(runs.list_presets())
            return
        flags = {
            "model": model,
            "data": data,
            "method": names(method),
            "metric": names(metric),
            "seeds": seeds,
            "samples": samples,
            "batch_size": batch_size,
            "device": device,
            "dtype": dtype,
        }
        command = ["captum-ib", *context.obj]
        runs.run(
            config, preset, flags, out, dry_run=dry_run, ray=ray, workers=workers, command=command
        )
