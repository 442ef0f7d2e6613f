"""``captum-ib explain``: what it can be asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from captum_ib.cli.arguments import AllowPickle, Device, Model, Traceback, names, one_line
from captum_ib.cli.talk import say


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
    question: Annotated[
        list[str] | None,
        typer.Option(help="for a model that answers, one for all pictures or one each"),
    ] = None,
    answer: Annotated[
        list[str] | None,
        typer.Option(help="answer(s) to explain (default: what the model says)"),
    ] = None,
    per_token: Annotated[
        bool, typer.Option("--per-token", help="also a map for each token of the answer")
    ] = False,
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
            question or [],
            answer or [],
            per_token,
        )
        look = {"opacity": opacity, "cmap": cmap, "contours": contours}
        run(request, out, {**look, "grey": grey, "masked": what_remains})
