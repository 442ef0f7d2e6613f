"""The figure of texts alone: each word on the colour of its value, long texts in many lines."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from captum_ib.visualization.panels import Passage, Shown
from captum_ib.visualization.sheet import GAP, HEADING, RANGE_LINE, Sheet, lines_of
from captum_ib.visualization.style import Style
from captum_ib.visualization.words import caption, caption_height

WIDTH = 7.0
"""Of the text, in inches."""
COLUMNS = 64
"""Characters to a line."""
_LINE, _TITLE, _BAR, _TITLE_COLUMNS = 0.24, 0.24, 2.0, 76


def texts(
    passages: Sequence[Passage], *, title: str | None = None, style: Style | None = None
) -> Figure:
    """Texts below each other, of one or several methods; those of one unit stand together.

    Args:
        passages: e.g. the two texts of a pair, of each method.
        title: above all (default: none).
        style: colour maps; see :class:`Style`.

    Raises:
        ValueError: no passage, or one without a value per word.

    >>> import numpy as np
    >>> figure = texts([Passage("CoM2IB", ["a", "red", "ring"], np.array([0.0, 2.0, 1.0]))])
    >>> [text.get_text() for text in figure.axes[1].texts[::2]]
    ['a', 'red', 'ring']
    """
    if not passages:
        raise ValueError("need at least one passage to draw, given none")
    style = style or Style()
    groups: dict[tuple[str, str], list[tuple[Passage, Shown]]] = {}
    for passage in passages:
        shown = Shown.of_words(passage, style)
        groups.setdefault((passage.unit, shown.sides), []).append((passage, shown))
    heading = lines_of(title or "", _TITLE_COLUMNS)
    top = GAP + 0.2 * len(heading.splitlines())
    height = top + sum(HEADING + sum(map(_height, group)) for group in groups.values())
    sheet = Sheet(WIDTH + 2 * GAP, height + GAP / 2)
    sheet.write(GAP, GAP / 2, heading, 11)
    for (unit, _), group in groups.items():
        sheet.heading(GAP, top, WIDTH, unit)
        scales = [shown.scale for _, shown in group]
        sheet.bar(GAP + WIDTH, top + 0.03, _BAR, scales, style)
        top += HEADING
        for passage, shown in group:
            _draw(sheet, passage, shown, style, top)
            top += _height((passage, shown))
    return sheet.figure


def _height(one: tuple[Passage, Shown]) -> float:
    passage, shown = one
    lines = caption_height(passage.tokens, shown.values, COLUMNS)
    return _TITLE + _LINE * lines + RANGE_LINE + 0.2


def _draw(sheet: Sheet, passage: Passage, shown: Shown, style: Style, top: float) -> None:
    sheet.write(GAP, top, passage.title, 10)
    lines = _LINE * caption_height(passage.tokens, shown.values, COLUMNS)
    ax = sheet.axes(GAP, top + _TITLE, WIDTH, lines)
    caption(
        ax,
        passage.tokens,
        shown.values,
        scale=shown.scale,
        columns=COLUMNS,
        numbers=True,
        style=style,
    )
    sheet.range(GAP, top + _TITLE + lines + 0.03, shown.remark or shown.range)
