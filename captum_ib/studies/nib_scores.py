"""What the studies of NIB share: the paper's four scores of pairs, their errors, and a chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from captum_ib.benchmark.explainers import Maps
from captum_ib.benchmark.subjects import Pairs
from captum_ib.metrics.plots import COLOURS, drawn
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.studies.material import Material

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS: dict[str, dict[str, Any]] = {
    "drop_image": {},
    "increase_image": {},
    "drop_text": {"blank": "a"},
    "increase_text": {"blank": "a"},
}
"""Confidence drop and increase of both sides, and their settings, as in the zoo's presets."""

Scores = Mapping[str, np.ndarray]


def pairs_model(material: Material) -> DualEncoder:
    """The model, which has to be one of pairs.

    Raises:
        ValueError: it is a classifier.
    """
    if not isinstance(material.model, DualEncoder):
        raise ValueError(
            f"this study explains pairs of an image and a text, given a model of "
            f"kind {material.loaded.kind!r}; give one of pairs, such as --model zoo:clip-scenes"
        )
    return material.model


def pairs_of(material: Material) -> list[Pairs]:
    """The batches, which are pairs where :func:`pairs_model` finds a model of pairs."""
    return [batch for batch in material.batches if isinstance(batch, Pairs)]


def judged(material: Material, maps: Sequence[Maps]) -> dict[str, np.ndarray]:
    """The four scores of every pair, ``(N,)`` each."""
    return {name: material.score(maps, name, **options) for name, options in METRICS.items()}


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and s/√N over the samples that have a score; NaN where there are too few.

    >>> mean_and_error(np.array([1.0, 3.0, np.nan]))
    (2.0, 1.0)
    """
    known = values[~np.isnan(values)]
    mean = float(known.mean()) if len(known) else float("nan")
    error = float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else float("nan")
    return mean, error


def columns_of(scores: Scores) -> dict[str, float]:
    """A row of a table: every score's mean and error.

    >>> columns_of({"drop": np.array([1.0, 3.0])})
    {'drop': 2.0, 'drop ±': 1.0}
    """
    row: dict[str, float] = {}
    for name, values in scores.items():
        row[name], row[f"{name} ±"] = mean_and_error(values)
    return row


def apart(one: np.ndarray, other: np.ndarray) -> str:
    """A paired difference in words, and whether it is more than two errors away from 0.

    >>> apart(np.array([3.0, 5.0, 4.0]), np.array([1.0, 1.0, 1.0]))
    '+3.00 ± 0.58 (told from 0)'
    """
    mean, error = mean_and_error(one - other)
    told = "told from 0" if abs(mean) > 2 * error else "not told from 0"
    return f"{mean:+.2f} ± {error:.2f} ({told})"


def chart(table: pd.DataFrame, x: str, names: Sequence[str], logarithmic: str = "") -> Figure:
    """One line with error bars per score, over a column of a table.

    Args:
        table: with columns ``x``, the names, and their errors.
        x: the column of the abscissa.
        names: of the scores.
        logarithmic: axes with a logarithmic scale: ``"x"``, ``"xy"``; default: none.
    """
    with drawn(3.3, 2.4) as (figure, axes):
        for name, colour in zip(names, COLOURS, strict=False):
            known = table[table[name].notna()]
            error = known[f"{name} ±"] if f"{name} ±" in table else None
            axes.errorbar(
                known[x], known[name], error, color=colour, marker="o", capsize=2, label=name
            )
        if "x" in logarithmic:
            axes.set_xscale("log")
        else:
            axes.set_xticks(list(table[x]))
        if "y" in logarithmic:
            axes.set_yscale("log")
        axes.set(xlabel=x)
        axes.grid(True)
        axes.legend()
    return figure
