"""``captum-ib demo``: explain generated pictures with the two models of the zoo."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import typer
from PIL import Image

from captum_ib.cli.talk import Steps
from captum_ib.explaining.choices import Choice, choose
from captum_ib.explaining.output import staged, write_json
from captum_ib.explaining.results import panel
from captum_ib.explaining.running import Finding, explain_choice
from captum_ib.explaining.scenes import held_out
from captum_ib.explaining.subject import Subject, make_subject
from captum_ib.loading.load import LoadedModel, load
from captum_ib.presets import recommended_method
from captum_ib.visualization import grid, save

METHODS: dict[str, tuple[str, ...]] = {
    "clip-scenes": (recommended_method("dual"), "m2ib", "nib"),
    "vit-scenes": (recommended_method("classifier"), "iba", "nib", "ig"),
}
"""The methods that are shown per model, the recommended one first, each with its preset."""


def run(out: Path, count: int, seed: int) -> None:
    """Write the pictures, one grid of explanations per model, and their settings to ``out``.

    Args:
        out: folder.
        count: pictures per model.
        seed: of the pictures (held-out ones: the models were trained on others) and the noise.
    """
    with staged(out) as folder:
        for name, chosen in METHODS.items():
            loaded = load(name)
            pictures, questions = held_out(loaded, count, seed)
            subjects = []
            for i, (picture, question) in enumerate(zip(pictures, questions, strict=True)):
                picture.save(folder / f"{name}-{i}.png")
                subjects.append(_subject(loaded, picture, question))
            results = _explain(subjects, choose(loaded, chosen, given={"seed": seed}), name)
            _write(folder, name, subjects, results, seed)
    shown = [out.resolve() / f"{name}.png" for name in METHODS]
    typer.echo("explanations: " + "  ".join(map(str, shown)))
    command = sys.argv[0] if sys.argv[0].endswith("captum-ib") else "captum-ib"
    typer.echo(
        f"try your own words:\n  {command} explain --model clip-scenes "
        f'--image {out / "clip-scenes-0.png"} --text "a red circle"'
    )


def _subject(loaded: LoadedModel, picture: Image.Image, question: str) -> Subject:
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
    panels = [
        [panel(subject, result) for result in row]
        for subject, row in zip(subjects, results, strict=True)
    ]
    figure = grid(
        [subject.picture for subject in subjects if subject.picture is not None],
        panels,
        titles=[subject.title for subject in subjects],
    )
    save(figure, folder / f"{name}.png")
    record = {
        "model": f"zoo:{name}",
        "seed": seed,
        "pictures": [
            {**subject.record(), "methods": [result.record() for result in row]}
            for subject, row in zip(subjects, results, strict=True)
        ],
    }
    write_json(folder / f"{name}.json", record)
