"""Figures: the picture, each method's map and coloured caption, in rows that wrap."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from captum_ib.visualization.colors import Array, Scale, enlarged, overlay
from captum_ib.visualization.panels import Drawn, Panel
from captum_ib.visualization.sheet import (
    GAP,
    HEADING,
    RANGE_LINE,
    TITLE_LINE,
    Sheet,
    bar_width,
    lines_of,
)
from captum_ib.visualization.style import Style
from captum_ib.visualization.words import COLUMNS, caption, caption_height

CELL = 2.2
"""Side of a picture, in inches."""
_LINE = 0.23  # a line of words
_TITLE_COLUMNS = 28
_MARK = "#D55E00"  # vermillion of the colour-blind safe palette of Okabe and Ito

Group = tuple[str, str]


def compare(
    image: Array, panels: Sequence[Panel], *, title: str | None = None, style: Style | None = None
) -> Figure:
    """One picture, and behind it the map and coloured caption of each method.

    Args:
        image: (3, H, W) or (H, W, 3), values in [0, 1].
        panels: one per method; those of one unit stand together.
        title: above the picture (default: none).
        style: see :class:`Style`.

    Returns:
        A matplotlib figure that belongs to no window.

    >>> maps = [Panel("A", np.eye(7)), Panel("B", -np.eye(7), unit="logits")]
    >>> len(compare(np.ones((56, 56, 3)), maps).axes)  # the picture, two maps, their colour bars
    5
    """
    return grid([image], [panels], titles=None if title is None else [title], style=style)


def grid(
    images: Sequence[Array],
    rows: Sequence[Sequence[Panel]],
    *,
    titles: Sequence[str] | None = None,
    style: Style | None = None,
) -> Figure:
    """Several pictures below each other, each with its methods behind it.

    A row wraps where it has more pictures than ``style.columns``. The unit and the colour bar of a
    group of maps are said once; each map's own limits stand below it.

    Args:
        images: one per row; each (3, H, W) or (H, W, 3), values in [0, 1].
        rows: the panels of each image.
        titles: one per image (default: none).
        style: see :class:`Style`.

    Raises:
        ValueError: no image, or the numbers of images, rows and titles differ.
    """
    titles = [""] * len(images) if titles is None else titles
    if not images or not all(rows) or not len(images) == len(rows) == len(titles):
        raise ValueError(
            f"need at least one image, and for each a row of panels and a title: got {len(images)} "
            f"images, rows of {[len(row) for row in rows]} panels and {len(titles)} titles"
        )
    style = style or Style()
    drawn = [_grouped([Drawn(panel, style) for panel in row]) for row in rows]
    columns = _columns(1 + max(map(len, drawn)), style.columns)
    lines = [
        line
        for image, row, title in zip(images, drawn, titles, strict=True)
        for line in _lines_of(enlarged(image), title, row, columns)
    ]
    sheet = Sheet(columns * (CELL + GAP) + GAP, sum(line.height for line in lines) + GAP)
    bars = _Bars(sheet, drawn, style)
    top = GAP / 2
    for line in lines:
        _draw_line(line, sheet, bars, style, top)
        top += line.height
    return sheet.figure


@dataclass(frozen=True)
class _Line:
    """Pictures side by side: perhaps the one that is explained, then maps.

    Attributes:
        pixels: the picture that is explained.
        title: its title; ``None`` where it stands in a line above.
        maps: the maps of this line, in the groups' order.
    """

    pixels: np.ndarray
    title: str | None
    maps: Sequence[Drawn]

    @property
    def first(self) -> int:
        """The column of the first map."""
        return 0 if self.title is None else 1

    @property
    def above(self) -> float:
        """Height of headings and titles."""
        titles = [self.title or "", *(one.panel.title for one in self.maps)]
        most = max(len(_title(text).splitlines()) for text in titles)
        return HEADING + 0.06 + TITLE_LINE * max(most, 1)

    @property
    def ranges(self) -> float:
        """Height of the limits below the maps."""
        return 0.05 + RANGE_LINE * max(
            (len(one.map.range.splitlines()) for one in self.maps), default=0
        )

    @property
    def words(self) -> float:
        """Height of the longest caption."""
        return _LINE * max(
            (
                caption_height(one.panel.tokens, one.words.values, COLUMNS)
                for one in self.maps
                if one.words is not None and one.panel.tokens is not None
            ),
            default=0.0,
        )

    @property
    def height(self) -> float:
        words = self.words
        below = words + 0.12 + 1.6 * RANGE_LINE if words else 0.0
        return self.above + CELL + self.ranges + below + GAP / 2


class _Bars:
    """The colour bars of a figure: one per group, where the group is first seen."""

    def __init__(self, sheet: Sheet, drawn: Sequence[Sequence[Drawn]], style: Style) -> None:
        self.sheet, self.style = sheet, style
        self.scales: dict[Group, list[Scale]] = {}
        for one in (one for row in drawn for one in row):
            self.scales.setdefault(one.group, []).extend(one.scales)
        self._waiting = set(self.scales)

    def head(self, group: Group, left: float, top: float, width: float) -> None:
        """The unit of a group over its cells, and its colours when they were not shown yet."""
        self.sheet.heading(left, top, width, group[0])
        if group in self._waiting:
            self._waiting.discard(group)
            scales = self.scales[group]
            self.sheet.bar(left + width, top + 0.03, bar_width(CELL), scales, self.style)


def _draw_line(line: _Line, sheet: Sheet, bars: _Bars, style: Style, top: float) -> None:
    middle = top + line.above
    if line.title is not None:
        sheet.picture(GAP, middle, CELL, line.pixels, _title(line.title))
    for group in dict.fromkeys(one.group for one in line.maps):
        at = [column for column, one in enumerate(line.maps) if one.group == group]
        width = len(at) * (CELL + GAP) - GAP
        bars.head(group, _left(line.first + at[0]), top, width)
    for column, one in enumerate(line.maps, start=line.first):
        _draw_map(one, line, sheet, style, _left(column), middle)


def _draw_map(one: Drawn, line: _Line, sheet: Sheet, style: Style, left: float, top: float) -> None:
    """Map, limits, and the caption with its own."""
    panel = one.panel
    shown = overlay(line.pixels, panel.attribution, scale=one.map.scale, style=style)
    _mark(sheet.picture(left, top, CELL, shown, _title(panel.title)), one)
    top += CELL + 0.05
    sheet.range(left, top, one.map.range)
    if one.words is None or panel.tokens is None:
        return
    top += line.ranges
    rows = _LINE * caption_height(panel.tokens, one.words.values, COLUMNS)
    ax = sheet.axes(left, top, CELL, rows)
    caption(ax, panel.tokens, one.words.values, scale=one.words.scale, numbers=True, style=style)
    remark = one.words.remark
    sheet.range(left, top + rows + 0.05, f"words: {remark or one.words.range}")


def _mark(ax: Axes, one: Drawn) -> None:
    """A remark over the lower edge of a map that colours alone would not show as what it is."""
    if not one.map.remark:
        return
    ax.text(
        0.5,
        0.03,
        one.map.remark,
        transform=ax.transAxes,
        ha="center",
        va="bottom",
        fontsize=8,
        color="white",
        parse_math=False,
        bbox={"facecolor": "#111111", "edgecolor": "none", "alpha": 0.8, "pad": 2},
    )
    if one.map.collapsed:
        frame = Rectangle(
            (0.01, 0.01),
            *(0.98, 0.98),
            transform=ax.transAxes,
            fill=False,
            ec=_MARK,
            lw=2.5,
            ls=(0, (4, 2)),
        )
        ax.add_patch(frame)


def _lines_of(pixels: np.ndarray, title: str, row: Sequence[Drawn], columns: int) -> list[_Line]:
    first = _Line(pixels, title, row[: columns - 1])
    rest = range(columns - 1, len(row), columns)
    return [first, *(_Line(pixels, None, row[start : start + columns]) for start in rest)]


def _grouped(row: Sequence[Drawn]) -> list[Drawn]:
    """Maps of one group beside each other, groups as they first appear."""
    order = list(dict.fromkeys(one.group for one in row))
    return sorted(row, key=lambda one: order.index(one.group))


def _columns(cells: int, most: int) -> int:
    """Columns for so many cells: no more than ``most``, and the last line about as full as others.

    >>> [_columns(cells, 5) for cells in (2, 5, 6, 11, 23)]
    [2, 5, 3, 4, 5]
    """
    lines = -(-cells // most)
    return -(-cells // lines)


def _left(column: int) -> float:
    return GAP + column * (CELL + GAP)


def _title(text: str) -> str:
    return lines_of(text, _TITLE_COLUMNS)


def save(figure: Figure, path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write a figure to ``path``; what stands there is replaced only by a complete picture.

    Args:
        figure: what to write.
        path: its suffix says the format (``.png``, ``.pdf``, ``.svg``, ...).
        dpi: dots per inch.

    Raises:
        FileNotFoundError: the folder does not exist.
        ValueError: matplotlib does not know the suffix.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"can't write {path}: the folder {path.parent} does not exist")
    with NamedTemporaryFile(dir=path.parent, suffix=path.suffix, delete=False) as scratch:
        try:
            figure.savefig(scratch, format=path.suffix[1:] or None, dpi=dpi)
        except BaseException:
            os.unlink(scratch.name)
            raise
    os.chmod(scratch.name, 0o644)  # temporary files are private, pictures are not
    os.replace(scratch.name, path)
    return path
