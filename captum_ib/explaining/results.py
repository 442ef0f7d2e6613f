"""Figures, arrays and settings of explanations, as files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from captum_ib.explaining.output import write_json
from captum_ib.explaining.running import Finding
from captum_ib.explaining.subject import Subject
from captum_ib.visualization import Panel, Passage, Style, compare, save, texts, unit_of


@dataclass(frozen=True)
class Origin:
    """Where results come from, for their records.

    Attributes:
        model: its name.
        image: path or name of the picture.
        seed: of the noise.
        device: where it was computed.
        dtype: in which type.
    """

    model: str
    image: str
    seed: int
    device: str
    dtype: str


def write_results(
    folder: Path,
    name: str,
    subject: Subject,
    results: Sequence[Finding],
    origin: Origin,
    style: Style | None = None,
) -> None:
    """Write ``NAME-METHOD.png``, ``.npz`` and ``.json`` for each result; ``style`` of the figures.

    With several results, ``NAME-compare.png`` shows them side by side.
    """
    for result in results:
        record = {
            **result.record(),
            "model": origin.model,
            "image": origin.image,
            **subject.record(),
            "seed": origin.seed,
            "device": origin.device,
            "dtype": origin.dtype,
        }
        stem = folder / f"{name}-{result.row.name}"
        save(figure_of(subject, [result], style), _with(stem, ".png"))
        arrays: Any = arrays_of(subject, result)
        np.savez_compressed(_with(stem, ".npz"), **arrays)
        write_json(_with(stem, ".json"), record)
    if len(results) > 1:
        save(figure_of(subject, results, style), folder / f"{name}-compare.png")


def _with(stem: Path, suffix: str) -> Path:
    """The suffix behind a name that may hold dots itself."""
    return stem.with_name(stem.name + suffix)


def arrays_of(subject: Subject, result: Finding) -> dict[str, np.ndarray]:
    """The maps with what they lie on: picture and words."""
    arrays: dict[str, np.ndarray] = {}
    if subject.sound and result.image is not None:
        arrays["audio"] = subject.inputs[0][0].float().cpu().numpy()
        arrays["audio_attribution"] = result.image.numpy()
    elif subject.picture is not None and result.image is not None:
        arrays["image"] = subject.picture.cpu().numpy()
        arrays["image_attribution"] = result.image.numpy()
    for words, values, name in zip(subject.words, result.texts, _names(subject), strict=True):
        arrays[f"{name}text_attribution"] = values.numpy()
        arrays[f"{name}tokens"] = np.array(words.tokens)
    return arrays


def _names(subject: Subject) -> tuple[str, ...]:
    """What stands ahead of the names of a text's arrays."""
    if subject.answering is not None:
        return ("question_", "answer_")
    return ("first_", "second_") if len(subject.words) == 2 else ("",) * len(subject.words)


def figure_of(subject: Subject, results: Sequence[Finding], style: Style | None = None) -> Figure:
    """The results side by side; of two texts one below the other."""
    if subject.picture is None:
        both = [one for result in results for one in passages(subject, result)]
        return texts(both, title=subject.title, style=style)
    panels = [panel(subject, result) for result in results]
    return compare(subject.picture, panels, title=subject.title, style=style)


def passages(subject: Subject, result: Finding) -> list[Passage]:
    """The texts of one method's result; begin, end and padding tokens stay out."""
    row = result.row
    return [
        Passage(
            f"{row.shown}, text {place + 1}" if subject.pair else row.shown,
            [words.tokens[i] for i in words.shown],
            values[words.shown],
            unit_of(row.unit, pair=subject.pair),
            row.signed,
            _collapsed(result, place),
        )
        for place, (words, values) in enumerate(zip(subject.words, result.texts, strict=True))
    ]


def panel(subject: Subject, result: Finding) -> Panel:
    """One method's result as a column of a figure; begin, end and padding tokens stay out."""
    words, values = None, None
    if subject.words:
        read = subject.words[subject.beside]
        words = [read.tokens[i] for i in read.shown]
        values = result.texts[subject.beside][read.shown]
    if result.image is None:
        raise ValueError(f"{result.row.name} has no map over a picture")
    row = result.row
    unit = unit_of(row.unit, pair=subject.pair, answer=subject.answering is not None)
    image = result.image.transpose(2, 3).flip(2) if subject.sound else result.image
    lost = _collapsed(result, 0)
    if subject.answering is not None:  # one fit for picture and words: either may hold nothing
        lost = bool(lost)
    return Panel(row.shown, image, unit, row.signed, words, values, lost)


def _collapsed(result: Finding, place: int) -> bool | None:
    """Whether the fit of one input is known to show nothing; else the figure looks at the map."""
    return True if any(result.collapses[place : place + 1]) else None
