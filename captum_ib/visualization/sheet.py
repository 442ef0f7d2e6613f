"""A sheet of paper that figures are drawn on, in inches from its upper left corner."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from captum_ib.visualization.colors import Scale
from captum_ib.visualization.numbers import amount
from captum_ib.visualization.style import Style

GAP = 0.25
HEADING = 0.34
TITLE_LINE = 0.17
RANGE_LINE = 0.16
_TITLE, _SMALL, _TINY = 10, 7.5, 7  # points
_BAR = (0.55, 0.09)  # a colour bar's width per cell of 2.2 inches, and its height
_INK, _QUIET, _RULE = "#111111", "#444444", "#999999"
_STEPS = 128
_UNIT_COLUMNS = 6.0  # characters of a unit to an inch of its group, beside the bar
_ENDS = {
    "above": ("0", "most"),
    "below": ("−most", "0"),
    "both": ("−most", "most"),
}


class Sheet:
    """A figure that belongs to no window, and places on it.

    Args:
        width, height: in inches.
    """

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), facecolor="white")
        self.width, self.height = width, height

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes with their upper left corner at ``(left, top)``."""
        bottom = self.height - top - height
        place = (left / self.width, bottom / self.height, width / self.width, height / self.height)
        return self.figure.add_axes(place)

    def write(self, left: float, top: float, text: str, size: float, **options: Any) -> None:
        """A text whose upper left corner is at ``(left, top)``."""
        place = left / self.width, 1 - top / self.height
        options = {"va": "top", "color": _INK, "parse_math": False, **options}
        self.figure.text(*place, text, fontsize=size, **options)

    def picture(self, left: float, top: float, side: float, pixels: np.ndarray, title: str) -> Axes:
        """A square with a picture in it, and its title above."""
        ax = self.axes(left, top, side, side)
        ax.imshow(pixels)
        ax.set_axis_off()
        ax.set_title(title, fontsize=_TITLE, parse_math=False, color=_INK, pad=4)
        return ax

    def range(self, left: float, top: float, text: str) -> None:
        """The limits below a map, in quiet letters."""
        self.write(left, top, text, _SMALL, color=_QUIET, linespacing=1.25)

    def heading(self, left: float, top: float, width: float, unit: str) -> None:
        """A rule over the cells of a group, and their unit."""
        y = 1 - top / self.height
        line = Line2D(
            [left / self.width, (left + width) / self.width], [y, y], color=_RULE, linewidth=0.8
        )
        self.figure.add_artist(line)
        columns = max(6, int(_UNIT_COLUMNS * width))
        self.write(left, top + 0.06, lines_of(unit, columns), 9, weight="bold", linespacing=1.0)

    def bar(
        self, right: float, top: float, width: float, scales: Sequence[Scale], style: Style
    ) -> None:
        """The colours of a group, ending at ``right``: with numbers where they have one scale."""
        scale = scales[0]
        values = np.linspace(scale.low, scale.high, _STEPS)
        ax = self.axes(right - width, top + 0.04, width, _BAR[1])
        white = np.ones((1, _STEPS, 3))
        colors = scale.blend(values[None], white, replace(style, grey=False))
        ax.imshow(colors, aspect="auto", extent=(0, 1, 0, 1))
        ax.set(xticks=[0, 1], yticks=[], ylim=(0, 1), xlim=(0, 1))
        ax.set_xticklabels(ends(scales), fontsize=_TINY, color=_QUIET, parse_math=False)
        ax.tick_params(length=0, pad=1.5)
        first, last = ax.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
        for spine in ax.spines.values():
            spine.set(color=_RULE, linewidth=0.5)


def ends(scales: Sequence[Scale]) -> tuple[str, str]:
    """What stands at the ends of a colour bar: numbers, or words where maps have their own scales.

    >>> ends([Scale(0.0, 41.23)]), ends([Scale(0.0, 41.23), Scale(0.0, 3.0)])
    (('0', '41'), ('0', 'most'))
    """
    scale = scales[0]
    if len(set(scales)) == 1:
        return amount(scale.low), amount(scale.high)
    if any(one.zero for one in scales):  # some start at their weakest value
        return "least", "most"
    both = scale.low < 0 < scale.high
    return _ENDS["both" if both else "below" if scale.low < 0 else "above"]


def bar_width(cell: float) -> float:
    """How wide a colour bar is beside the unit of a cell this wide."""
    return _BAR[0] * min(cell, 2.2)


def lines_of(text: str, columns: int) -> str:
    """A text broken into lines, none of them wider than ``columns`` characters."""
    return textwrap.fill(text, columns, break_long_words=True)
