"""Words on the colour of their attribution, with their numbers, in lines that wrap."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.text import Text

from captum_ib.visualization.colors import Array, Scale, checked_numbers, readable_on
from captum_ib.visualization.numbers import amounts
from captum_ib.visualization.style import Style

COLUMNS = 24
"""Characters to a line below a picture."""
_MONO_ADVANCE = 0.602  # width of a DejaVu Sans Mono character over its font size
_SMALL = 0.68  # size of a number over that of its word
_WITH_NUMBER = 1.75  # height of a line with numbers over one without
_MARGIN = 0.3  # characters beside a line, for the boxes of its first and last word
_QUIET = "#444444"

Places = list[tuple[int, int]]


def caption(
    ax: Axes,
    tokens: Sequence[str],
    attribution: Array,
    *,
    signed: bool | None = None,
    scale: Scale | None = None,
    columns: int = COLUMNS,
    numbers: bool = False,
    style: Style | None = None,
) -> list[Text]:
    """Write the words into ``ax``, each on the colour of its attribution.

    Args:
        ax: axes to write into; its frame and ticks are taken away.
        tokens: T words.
        attribution: (T,) or (1, T), any unit.
        signed: see :meth:`Scale.of`.
        scale: limits and colours to use instead of those that fit these words.
        columns: characters to a line; the type is sized to fill the axes' width.
        numbers: write each word's value below it.
        style: opacity and colours; a value of 0 stands on white.

    Returns:
        The text objects of the words, in order.

    Raises:
        ValueError: the numbers of words and values differ, or a value is NaN or inf.

    >>> from matplotlib.figure import Figure
    >>> ax = Figure().add_axes((0, 0, 1, 1))
    >>> [word.get_text() for word in caption(ax, ["a", "red", "ring"], np.array([0.0, 2.0, 1.0]))]
    ['a', 'red', 'ring']
    """
    values = token_values(tokens, attribution)
    style = style or Style()
    scale = scale or Scale.of(values, signed, style=style)
    said = amounts(values.tolist()) if numbers else None
    places, lines = wrap(tokens, columns, said)
    height = _WITH_NUMBER if numbers else 1.0
    ax.set(
        xlim=(-_MARGIN, columns + _MARGIN),
        ylim=(lines * height, 0),
        xticks=[],
        yticks=[],
        frame_on=False,
    )
    size = 72 * ax.bbox.width / ax.figure.dpi / (columns + 2 * _MARGIN) / _MONO_ADVANCE
    colors = scale.on_white(values, style)
    words = []
    for at, (column, line) in enumerate(places):
        fitting = size * min(1.0, columns / max(len(tokens[at]), 1))
        box = {"facecolor": colors[at], "edgecolor": "none", "pad": 0.15 * fitting}
        top = line * height
        word = _write(ax, column, top + 0.5, tokens[at], fitting, readable_on(colors[at]), box)
        words.append(word)
        if said is not None:
            _write(ax, column, top + 1.3, said[at], _SMALL * size, _QUIET)
    return words


def caption_height(tokens: Sequence[str], attribution: Array, columns: int) -> float:
    """Lines that a caption with numbers takes, in heights of a line without."""
    said = amounts(token_values(tokens, attribution).tolist())
    return wrap(tokens, columns, said)[1] * _WITH_NUMBER


def wrap(
    tokens: Sequence[str], columns: int, numbers: Sequence[str] | None = None
) -> tuple[Places, int]:
    """Column and line of each word's first character, and the number of lines."""
    places: Places = []
    column = line = 0
    for at, token in enumerate(tokens):
        below = 0 if numbers is None else -(-len(numbers[at]) * 7 // 10)
        width = min(max(len(token), below), columns)
        if column and column + width > columns:
            column, line = 0, line + 1
        places.append((column, line))
        column += width + 1
    return places, line + 1


def token_values(tokens: Sequence[str], attribution: Array) -> np.ndarray:
    """One value per word, ``(T,)``.

    Raises:
        ValueError: another number of values, or no word.
    """
    values = checked_numbers(attribution, "token attribution")
    if values.ndim == 2 and values.shape[0] == 1:
        values = values[0]
    if values.shape != (len(tokens),) or not len(tokens):
        raise ValueError(
            f"token attribution must hold one value per word, shape ({len(tokens)},) or "
            f"(1, {len(tokens)}), got {values.shape}"
        )
    return values


def _write(
    ax: Axes, x: float, y: float, text: str, size: float, color: str, box: dict | None = None
) -> Text:
    return ax.text(
        x,
        y,
        text,
        family="monospace",
        fontsize=size,
        va="center",
        color=color,
        parse_math=False,  # a caption may hold dollar signs
        bbox=box,
    )
