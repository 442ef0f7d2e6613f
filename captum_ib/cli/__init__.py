"""The command line: ``captum-ib explain``, ``demo``, ``benchmark``, ``report`` and lists.

Only the parsing stands here; what a command does is imported when it runs, so that ``--help`` and
mistakes in the arguments answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from captum_ib.cli.arguments import (
    AllowPickle,
    Device,
    Model,
    Traceback,
    names,
    one_line,
    spread,
)
from captum_ib.cli.command_benchmark import benchmark_command
from captum_ib.cli.command_explain import explain_command
from captum_ib.cli.talk import say

try:
    from typer.exceptions import TyperException as UsageProblem
except ImportError:  # typer before it brought its own copy of click's exceptions
    from click import ClickException as UsageProblem  # pyright: ignore[reportMissingImports]

app = typer.Typer(
    name="captum-ib",
    help="Explain what classifiers and image-text models look at, in bits.",
    add_completion=False,
    pretty_exceptions_enable=False,  # a bug gets a plain traceback, without local variables
)


def _version(wanted: bool) -> None:
    if wanted:
        from captum_ib import __version__

        typer.echo(f"captum-ib {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Explain what classifiers and image-text models look at, in bits."""


app.command("explain")(explain_command)


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="folder for the pictures")] = Path("demo"),
    images: Annotated[int, typer.Option(min=1, max=16, help="pictures per model")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="of the pictures and of the noise")] = 0,
    traceback: Traceback = False,
) -> None:
    """Explain scenes with the bundled models, and photographs where the extra weights is there."""
    with one_line(traceback):
        say("loading …")
        from captum_ib.cli.demo import run

        run(out, images, seed)


app.command("benchmark")(benchmark_command)


@app.command("report")
def report_command(
    runs: Annotated[
        list[Path], typer.Argument(help="folder(s) of `captum-ib benchmark`, finished or not")
    ],
    out: Annotated[Path, typer.Option(help="folder for the report")] = Path("report"),
    format: Annotated[
        list[str] | None, typer.Option(help="of the tables: md, csv, latex (default: all)")
    ] = None,
    gallery: Annotated[int, typer.Option(min=1, help="samples in the gallery, at most")] = 50,
    no_gallery: Annotated[bool, typer.Option("--no-gallery", help="make no gallery")] = False,
    paired: Annotated[
        bool, typer.Option("--paired", help="add paired differences to the best method")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="of the choice of samples shown")] = 0,
    traceback: Traceback = False,
) -> None:
    """Make tables, figures and a gallery from benchmark runs."""
    with one_line(traceback):
        from captum_ib.report import FORMATS, make_report

        formats, samples = names(format) or FORMATS, 0 if no_gallery else gallery
        text, files = make_report(
            runs, out, formats=formats, samples=samples, paired=paired, seed=seed
        )
        typer.echo("\n".join([text, *map(str, files)]))


@app.command("app")
def app_command(
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="further model, as for explain; may be repeated (always: the bundled ones, and "
            "those of the extra weights)"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="address to listen at; only this machine reaches the default")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port to listen at; 0 takes a free one")] = 7860,
    device: Device = "cpu",
    max_megabytes: Annotated[float, typer.Option(help="largest file that is taken")] = 20,
    max_megapixels: Annotated[float, typer.Option(help="largest picture that is read")] = 40,
    allow_pickle: AllowPickle = False,
    traceback: Traceback = False,
) -> None:
    """Serve a page to play with: pictures and words in, maps in bits out (extra: app)."""
    from captum_ib.cli.serve import run

    limits = (max_megabytes, max_megapixels)
    with one_line(traceback):
        run(model or [], host, port, device, *limits, allow_pickle)


@app.command("methods")
def methods_command() -> None:
    """List the methods, what they explain, and the papers behind them."""
    from captum_ib.cli.listing import methods_table

    typer.echo(methods_table())


@app.command("layers")
def layers_command(
    model: Model,
    traceback: Traceback = False,
) -> None:
    """List the layers a model can be explained at, and each method's default."""
    from captum_ib.cli.listing import layers_table

    with one_line(traceback):
        typer.echo(layers_table(model))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, or 2 after one line on stderr.

    Args:
        argv: the arguments without the program's name (default: those of the process).
    """
    # Hub libraries log on stderr, where a mistake should get one line and nothing else.
    for name in ("HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = spread(given) or ["--help"]
    try:
        code = app(arguments, prog_name="captum-ib", standalone_mode=False, obj=given)
    except UsageProblem as error:
        typer.echo(f"captum-ib: error: {' '.join(error.format_message().split())}", err=True)
        return 2
    return code if isinstance(code, int) else 0
