"""The figure of two texts: their words on the colour of what each method gives them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from captum_ib.explaining.running import Finding
from captum_ib.explaining.subject import Subject
from captum_ib.explaining.summary import readable
from captum_ib.visualization import Scale, caption

_WIDTH, _ROW, _TITLE, _BAR = 7.0, 0.62, 0.4, 0.6  # inches


def texts_figure(subject: Subject, results: Sequence[Finding]) -> Figure:
    """Each method's two texts, one below the other, on one scale with a bar below them."""
    height = len(results) * (_TITLE + 2 * _ROW + _BAR) + _TITLE
    figure = Figure(figsize=(_WIDTH, height))
    figure.text(0.02, 1 - 0.6 * _TITLE / height, subject.title, fontsize=10, parse_math=False)
    top = height - _TITLE
    for result in results:
        _draw(figure, subject, result, top)
        top -= _TITLE + 2 * _ROW + _BAR
    return figure


def _draw(figure: Figure, subject: Subject, result: Finding, top: float) -> None:
    """One method; ``top`` in inches from below."""
    height = figure.get_figheight()
    shown = [words.shown for words in subject.words]
    values = [one[places] for one, places in zip(result.texts, shown, strict=True)]
    scale = Scale.of(np.concatenate([one.numpy() for one in values]), result.row.signed)
    figure.text(0.02, (top - 0.7 * _TITLE) / height, result.row.shown, fontsize=10)
    top -= _TITLE
    for words, places, one in zip(subject.words, shown, values, strict=True):
        top -= _ROW
        ax = figure.add_axes((0.02, top / height, 0.96, 0.9 * _ROW / height))
        caption(ax, [words.tokens[i] for i in places], one, scale=scale, columns=72)
    ax = figure.add_axes((0.25, (top - 0.25) / height, 0.5, 0.08 / height))
    bar = figure.colorbar(
        ScalarMappable(norm=scale.norm, cmap=scale.cmap), cax=ax, orientation="horizontal"
    )
    ticks = [scale.low, (scale.low + scale.high) / 2, scale.high]
    labels = [readable(ticks[0]), f"{readable(ticks[1])} {result.row.unit}", readable(ticks[2])]
    bar.set_ticks(ticks, labels=labels)
    ax.tick_params(labelsize=8, length=2, pad=1)
