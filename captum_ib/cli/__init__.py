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

from captum_ib.cli.arguments import names, one_line, spread
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

Model = Annotated[
    str,
    typer.Option(
        help="clip-scenes, vit-scenes, vit-relations, timm:NAME, hf:ID-or-folder, "
        "open_clip:NAME/TAG, openai_clip:FILE, albef:FILE, imagebind:FILE, or a folder"
    ),
]

Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, ...")]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="accept pickled weights (they can run code)")
]
Traceback = Annotated[bool, typer.Option("--traceback", help="show where an error comes from")]


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


@app.command("explain")
def explain_command(
    model: Model,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="picture(s) to explain: files, folders, or patterns in quotes"),
    ] = None,
    audio: Annotated[
        list[Path] | None, typer.Option(help="WAV file(s) to explain, for an audio-text model")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            help="caption for an image-text model, one for all pictures or one each; for a "
            "sentence encoder two texts; for a classifier of texts one or several"
        ),
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(help="class for a classifier, index or label (default: the likeliest)"),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(help="method(s) or all, see `captum-ib methods` (default: the recommended)"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for the results")] = Path("out"),
    preset: Annotated[
        str, typer.Option(help="settings that are not given: recommended, or paper")
    ] = "recommended",
    layer: Annotated[
        list[str] | None,
        typer.Option(help="auto, paper, or name(s): `captum-ib layers` (default: the preset's)"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the noise")] = 0,
    beta: Annotated[float | None, typer.Option(help="weight of the information")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="steps of the fit or path")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="noise draws per step")] = None,
    opacity: Annotated[
        float | None, typer.Option(help="share of the colour over the picture")
    ] = None,
    cmap: Annotated[
        str | None,
        typer.Option(help="colour map of matplotlib (default: viridis, RdBu for both signs)"),
    ] = None,
    grey: Annotated[bool, typer.Option("--grey", help="the picture in grey below the colours")] = (
        False
    ),
    contours: Annotated[int | None, typer.Option(help="lines of equal value")] = None,
    what_remains: Annotated[
        bool, typer.Option("--what-remains", help="the picture seen through the map")
    ] = False,
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16")] = "float32",
    revision: Annotated[
        str | None, typer.Option(help="branch, tag or commit of a hub model")
    ] = None,
    allow_pickle: AllowPickle = False,
    traceback: Traceback = False,
) -> None:
    """Explain picture(s): a figure, the raw arrays and the settings for each method."""
    with one_line(traceback):
        if not image and not audio and not text:
            raise ValueError(
                "pass --image, the picture(s) to explain, or for models of texts --text, for those "
                "of sounds --audio"
            )
        shown = os.fsencode(model).decode("utf-8", "backslashreplace")
        say(f"loading {shown} …")  # before torch, which takes seconds itself
        from captum_ib.cli.explain import Request, run

        request = Request(
            model,
            image or [],
            text or [],
            target or [],
            names(method),
            layer or [],
            preset,
            {"beta": beta, "steps": steps, "samples": samples, "seed": seed},
            device,
            dtype,
            revision,
            allow_pickle,
            audio or [],
        )
        look = {"opacity": opacity, "cmap": cmap, "contours": contours}
        run(request, out, {**look, "grey": grey, "masked": what_remains})


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


@app.command("benchmark")
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
