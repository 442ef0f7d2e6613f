"""``captum-ib demo``: explain generated pictures with the two models of the zoo."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import typer
from PIL import Image
from tqdm import tqdm

from captum_ib import methods
from captum_ib.explaining.output import staged, write_json
from captum_ib.explaining.results import panel
from captum_ib.explaining.scenes import held_out
from captum_ib.explaining.subject import Explanation, Subject, explain_subject, make_subject
from captum_ib.loading.load import LoadedModel, load
from captum_ib.visualization import grid, save

# Per model its methods and their layers (none: the method's default). The papers' depth, three
# quarters up, suits these small models less: their maps point better near the bottom.
_TOWERS = ("vision_model.encoder.layers.{}", "text_model.encoder.layers.{}")
METHODS: dict[str, dict[str, tuple[str, ...]]] = {
    "clip-scenes": {
        "m2ib": tuple(tower.format(1) for tower in _TOWERS),
        "nib": tuple(tower.format(0) for tower in _TOWERS),
    },
    "vit-scenes": {"coiba": (), "iba": ("blocks.1",), "nib": ("blocks.0",), "ig": ()},
}


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
            results = _explain(subjects, chosen, seed, name)
            _write(folder, name, subjects, results, seed)
    shown = [out.resolve() / f"{name}.png" for name in METHODS]
    typer.echo("explanations: " + "  ".join(map(str, shown)))
    command = sys.argv[0] if sys.argv[0].endswith("captum-ib") else "captum-ib"
    typer.echo(
        f"try your own words:\n  {command} explain --model clip-scenes "
        f'--image {out / "clip-scenes-0.png"} --text "a red circle" --method m2ib nib'
    )


def _subject(loaded: LoadedModel, picture: Image.Image, question: str) -> Subject:
    return make_subject(loaded, picture, question, torch.device("cpu"), torch.float32)


def _explain(
    subjects: list[Subject], chosen: Mapping[str, Sequence[str]], seed: int, name: str
) -> list[list[Explanation]]:
    rows = [methods.get(method) for method in chosen]
    settings = methods.settings_for(rows, {"seed": seed})
    jobs = [(subject, row) for subject in subjects for row in rows]
    done = [
        explain_subject(subject, row, chosen[row.name], settings[row.name], show_progress=False)
        for subject, row in tqdm(jobs, desc=name, unit="map", delay=1, disable=None)
    ]
    return [done[i : i + len(rows)] for i in range(0, len(done), len(rows))]


def _write(
    folder: Path,
    name: str,
    subjects: list[Subject],
    results: list[list[Explanation]],
    seed: int,
) -> None:
    panels = [
        [panel(subject, result) for result in row]
        for subject, row in zip(subjects, results, strict=True)
    ]
    figure = grid(
        [subject.picture for subject in subjects],
        panels,
        titles=[subject.title for subject in subjects],
    )
    save(figure, folder / f"{name}.png")
    record = {
        "model": f"zoo:{name}",
        "seed": seed,
        "pictures": [subject.record() for subject in subjects],
        "methods": [result.record() for result in results[0]],
    }
    write_json(folder / f"{name}.json", record)
