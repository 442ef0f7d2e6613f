"""The radar plot of FunnyBirds scores, as a paper could print it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from captum_ib.metrics.plots import COLOURS, finish, paper_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.projections.polar import PolarAxes

    from captum_ib.metrics.funnybirds.score import FunnyBirdsScores

_AXES = {
    "accuracy": "Accuracy",
    "background_independence": "Background\nindependence",
    "csdc": "CSDC",
    "pc": "Preservation",
    "dc": "Deletion",
    "d": "Distractibility",
    "sd": "Single\ndeletion",
    "ts": "Target\nsensitivity",
}


def plot_radar(scores: Mapping[str, FunnyBirdsScores], path: str | Path | None = None) -> Figure:
    """Draw the eight scores of each explanation on one radar, from 0 at the centre to 1.

    Args:
        scores: legend entry → scores; at most eight, one colour each.
        path: where to save (``.pdf``, ``.svg``, ``.png``); None: nothing is saved.

    Returns:
        The matplotlib figure; a score that is NaN leaves a gap in its line.

    Raises:
        ValueError: no scores, or more than eight.
    """
    if not 1 <= len(scores) <= len(COLOURS):
        raise ValueError(f"a radar shows 1 to {len(COLOURS)} explanations, given {len(scores)}")
    angles = [2 * math.pi * i / len(_AXES) for i in range(len(_AXES))]
    from matplotlib.figure import Figure

    with paper_style():
        figure = Figure(figsize=(4.2, 3.8))
        axes = cast("PolarAxes", figure.add_subplot(projection="polar"))
        axes.set_theta_offset(math.pi / 2)
        axes.set_theta_direction(-1)
        for (label, one), colour in zip(scores.items(), COLOURS, strict=False):
            numbers = one.as_dict()
            values = [numbers[name] for name in _AXES]
            legend = f"{label} (total {numbers['total']:.2f})"
            axes.plot([*angles, 0.0], [*values, values[0]], color=colour, label=legend, marker="o")
            if not any(map(math.isnan, values)):
                axes.fill(angles, values, color=colour, alpha=0.12, linewidth=0)
        axes.set_ylim(0, 1)
        axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["", "0.5", "", "1"], color="0.4")
        axes.set_xticks(angles, list(_AXES.values()))
        axes.tick_params(axis="x", pad=8)
        axes.spines["polar"].set_color("0.8")
        figure.legend(loc="lower center", ncols=2, bbox_to_anchor=(0.5, -0.08))
        return finish(figure, path)
