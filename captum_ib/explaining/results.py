"""Figures, arrays and settings of explanations, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from captum_ib.explaining.output import write_json
from captum_ib.explaining.running import Finding
from captum_ib.explaining.subject import Subject
from captum_ib.explaining.texts import texts_figure
from captum_ib.visualization import Panel, compare, save


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
    folder: Path, name: str, subject: Subject, results: Sequence[Finding], origin: Origin
) -> None:
    """Write ``NAME-METHOD.png``, ``.npz`` and ``.json`` for each result.

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
        _write_result(folder, f"{name}-{result.row.name}", subject, result, record)
    if len(results) > 1:
        save(figure_of(subject, results), folder / f"{name}-compare.png")


def _write_result(
    folder: Path, stem: str, subject: Subject, result: Finding, record: Mapping[str, Any]
) -> None:
    save(figure_of(subject, [result]), folder / f"{stem}.png")
    arrays = arrays_of(subject, result)
    np.savez_compressed(folder / f"{stem}.npz", **arrays)  # pyright: ignore[reportArgumentType]
    write_json(folder / f"{stem}.json", record)


def arrays_of(subject: Subject, result: Finding) -> dict[str, np.ndarray]:
    """The maps with what they lie on: picture and words."""
    arrays: dict[str, np.ndarray] = {}
    if subject.picture is not None and result.image is not None:
        arrays["image"] = subject.picture.cpu().numpy()
        arrays["image_attribution"] = result.image.numpy()
    for words, values, name in zip(subject.words, result.texts, _names(subject), strict=True):
        arrays[f"{name}text_attribution"] = values.numpy()
        arrays[f"{name}tokens"] = np.array(words.tokens)
    return arrays


def _names(subject: Subject) -> tuple[str, ...]:
    """What stands ahead of the names of a text's arrays."""
    return ("first_", "second_") if len(subject.words) == 2 else ("",) * len(subject.words)


def figure_of(subject: Subject, results: Sequence[Finding]) -> Figure:
    """The results side by side; of two texts one below the other."""
    if subject.picture is None:
        return texts_figure(subject, results)
    panels = [panel(subject, result) for result in results]
    return compare(subject.picture, panels, title=subject.title)


def panel(subject: Subject, result: Finding) -> Panel:
    """One method's result as a column of a figure; begin, end and padding tokens stay out."""
    words, values = None, None
    if result.text is not None:
        shown = subject.words[-1].shown
        words = [subject.tokens[i] for i in shown]
        values = result.text[shown]
    if result.image is None:
        raise ValueError(f"{result.row.name} has no map over a picture")
    row = result.row
    return Panel(row.shown, result.image, row.unit, row.signed, words, values)
