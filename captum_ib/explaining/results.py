"""Figures, arrays and settings of explanations, as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captum_ib.explaining.output import write_json
from captum_ib.explaining.subject import Explanation, Subject
from captum_ib.visualization import Panel, compare, save, unit_of


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
    folder: Path, name: str, subject: Subject, results: Sequence[Explanation], origin: Origin
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
        panels = [panel(subject, result) for result in results]
        save(compare(subject.picture, panels, title=subject.title), folder / f"{name}-compare.png")


def _write_result(
    folder: Path, stem: str, subject: Subject, result: Explanation, record: Mapping[str, Any]
) -> None:
    save(
        compare(subject.picture, [panel(subject, result)], title=subject.title),
        folder / f"{stem}.png",
    )
    arrays = {
        "image": subject.picture.cpu().numpy(),
        "image_attribution": result.image.cpu().numpy(),
    }
    if result.text is not None:
        arrays["text_attribution"] = result.text.cpu().numpy()
        arrays["tokens"] = np.array(subject.tokens)
    np.savez_compressed(folder / f"{stem}.npz", **arrays)  # pyright: ignore[reportArgumentType]
    write_json(folder / f"{stem}.json", record)


def panel(subject: Subject, result: Explanation) -> Panel:
    """One method's result as a column of a figure; begin, end and padding tokens stay out."""
    words, values = None, None
    if result.text is not None:
        shown = [i for i, word in enumerate(subject.tokens) if word not in subject.special_tokens]
        words = [subject.tokens[i] for i in shown]
        values = result.text[shown]
    row = result.row
    unit = unit_of(row.unit, pair=subject.text is not None)
    return Panel(row.title, result.image, unit, row.signed, words, values)
