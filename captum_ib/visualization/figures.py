"""Figures: the image, each method's overlay and its coloured caption, side by side."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.text import Text

from captum_ib.visualization.colors import (
    Array,
    Scale,
    checked_image,
    checked_numbers,
    overlay,
    readable_on,
)

# Layout of a figure, in inches; a caption is set in a monospaced face, CAPTION_COLUMNS to a line.
_CELL, _GAP, _BAR, _LINE = 2.6, 0.35, 0.5, 0.27
_TITLE_TOP, _TITLE_LINE, _TITLE_COLUMNS = 0.25, 0.18, 36
CAPTION_COLUMNS = 28
_MONO_ADVANCE = 0.602  # width of a DejaVu Sans Mono character over its font size


@dataclass(frozen=True)
class Panel:
    """One method's column in a figure.

    Args:
        title: shown above the map.
        attribution: (h, w), (1, h, w) or (1, 1, h, w).
        unit: label of the colour bars, e.g. ``"bits"`` or ``"output units"``.
        signed: see :meth:`Scale.of`.
        tokens: words of the caption, or ``None`` when there is no text.
        token_attribution: (T,) or (1, T), one value per word.
    """

    title: str
    attribution: Array
    unit: str = "bits"
    signed: bool | None = None
    tokens: Sequence[str] | None = None
    token_attribution: Array | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) != (self.token_attribution is None):
            raise ValueError(
                f"panel {self.title!r}: tokens and token_attribution belong together; "
                "pass both or neither"
            )


def caption(
    ax: Axes,
    tokens: Sequence[str],
    attribution: Array,
    *,
    signed: bool | None = None,
    scale: Scale | None = None,
    columns: int = CAPTION_COLUMNS,
) -> list[Text]:
    """Write the words into ``ax``, each on the colour of its attribution.

    Args:
        ax: axes to write into; its frame and ticks are taken away.
        tokens: T words.
        attribution: (T,) or (1, T), any unit.
        signed: see :meth:`Scale.of`.
        scale: limits and colours to use instead of those that fit these words.
        columns: characters to a line; the type is sized to fill the axes' width.

    Returns:
        The text objects, one per word, in order.

    Raises:
        ValueError: the numbers of words and values differ, or a value is NaN or inf.

    >>> ax = Figure().add_axes((0, 0, 1, 1))
    >>> [word.get_text() for word in caption(ax, ["a", "red", "ring"], np.array([0.0, 2.0, 1.0]))]
    ['a', 'red', 'ring']
    """
    values = _token_values(tokens, attribution)
    scale = scale or Scale.of(values, signed)
    places, lines = _wrap(tokens, columns)
    ax.set(xlim=(0, columns), ylim=(lines, 0), xticks=[], yticks=[], frame_on=False)
    size = 72 * ax.bbox.width / ax.figure.dpi / columns / _MONO_ADVANCE
    words = []
    for token, value, (column, line) in zip(tokens, values, places, strict=True):
        color = scale.colors(np.asarray(value))
        words.append(
            ax.text(
                column,
                line + 0.5,
                token,
                family="monospace",
                fontsize=size,
                va="center",
                color=readable_on(color),
                parse_math=False,  # a caption may hold dollar signs
                bbox={"facecolor": color, "edgecolor": "none", "pad": 0.15 * size},
            )
        )
    return words


def compare(image: Array, panels: Sequence[Panel], *, title: str | None = None) -> Figure:
    """One image and, beside it, the overlay and coloured caption of each method.

    Args:
        image: (3, H, W) or (H, W, 3), values in [0, 1].
        panels: one per method.
        title: above the image (default: none).

    Returns:
        A matplotlib figure that belongs to no window.

    >>> maps = [Panel("A", np.eye(7)), Panel("B", -np.eye(7), unit="output units")]
    >>> len(compare(np.ones((56, 56, 3)), maps).axes)  # the image, two maps, their two colour bars
    5
    """
    return grid([image], [panels], titles=None if title is None else [title])


def grid(
    images: Sequence[Array],
    rows: Sequence[Sequence[Panel]],
    *,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Several images below each other, each with its methods side by side.

    Args:
        images: one per row; each (3, H, W) or (H, W, 3), values in [0, 1].
        rows: the panels of each image.
        titles: one per image (default: none).

    Raises:
        ValueError: no image, or the numbers of images, rows and titles differ.
    """
    titles = [""] * len(images) if titles is None else titles
    if not images or not all(rows) or not len(images) == len(rows) == len(titles):
        raise ValueError(
            f"need at least one image, and for each a row of panels and a title: got {len(images)} "
            f"images, rows of {[len(row) for row in rows]} panels and {len(titles)} titles"
        )
    columns = 1 + max(len(row) for row in rows)
    heights = [_Heights.of(row, title) for row, title in zip(rows, titles, strict=True)]
    top = sum(height.total for height in heights)
    figure = Figure(figsize=(columns * (_CELL + _GAP) + _GAP, top))
    for image, row, title, height in zip(images, rows, titles, heights, strict=True):
        pixels = checked_image(image)
        bottom = top - height.title - _CELL
        _picture(_axes(figure, 0, bottom, _CELL), pixels, title)
        for column, panel in enumerate(row, start=1):
            _draw_panel(figure, panel, pixels, column, bottom, height.words)
        top -= height.total
    return figure


@dataclass(frozen=True)
class _Heights:
    """Heights of a row's parts, in inches: its titles, and its captions without colour bar."""

    title: float
    words: float

    @classmethod
    def of(cls, row: Sequence[Panel], title: str) -> _Heights:
        titles = [title, *(panel.title for panel in row)]
        title_lines = max(len(_title(text).splitlines()) for text in titles)
        lines = [_wrap(panel.tokens, CAPTION_COLUMNS)[1] for panel in row if panel.tokens]
        return cls(_TITLE_TOP + _TITLE_LINE * title_lines, _LINE * max(lines, default=0))

    @property
    def total(self) -> float:
        return self.title + _CELL + _BAR + (self.words + _BAR if self.words else 0)


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


def _draw_panel(
    figure: Figure, panel: Panel, pixels: np.ndarray, column: int, bottom: float, words: float
) -> None:
    """Overlay and caption with their colour bars; places and heights in inches."""
    scale = Scale.of(panel.attribution, panel.signed)
    ax = _axes(figure, column, bottom, _CELL)
    _picture(ax, overlay(pixels, panel.attribution, scale=scale), panel.title)
    _colorbar(figure, scale, column, bottom, panel.unit)
    if panel.tokens is not None and panel.token_attribution is not None:
        bottom -= _BAR + words
        scale = Scale.of(panel.token_attribution, panel.signed)
        ax = _axes(figure, column, bottom, words)
        caption(ax, panel.tokens, panel.token_attribution, scale=scale)
        _colorbar(figure, scale, column, bottom, panel.unit)


def _axes(figure: Figure, column: int, bottom: float, height: float) -> Axes:
    """Axes as wide as a cell; ``bottom`` and ``height`` in inches."""
    width, total = figure.get_size_inches()
    left = _GAP + column * (_CELL + _GAP)
    return figure.add_axes((left / width, bottom / total, _CELL / width, height / total))


def _picture(ax: Axes, pixels: np.ndarray, title: str) -> None:
    ax.imshow(pixels, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(_title(title), fontsize=10, parse_math=False)


def _title(text: str) -> str:
    """Broken into lines that are no wider than a cell."""
    return textwrap.fill(text, _TITLE_COLUMNS)


def _colorbar(figure: Figure, scale: Scale, column: int, top: float, unit: str) -> None:
    ax = _axes(figure, column, top - 0.15, 0.08)
    mappable = ScalarMappable(norm=scale.norm, cmap=scale.cmap)
    bar = figure.colorbar(mappable, cax=ax, orientation="horizontal")
    middle = (scale.low + scale.high) / 2
    labels = [f"{scale.low:.3g}", f"{middle:.3g} {unit}", f"{scale.high:.3g}"]
    bar.set_ticks([scale.low, middle, scale.high], labels=labels)
    ax.tick_params(labelsize=8, length=2, pad=1)
    first, _, last = ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")


def _wrap(tokens: Sequence[str], columns: int) -> tuple[list[tuple[int, int]], int]:
    """Column and line of each word's first character, and the number of lines."""
    places, column, line = [], 0, 0
    for token in tokens:
        if column and column + len(token) > columns:
            column, line = 0, line + 1
        places.append((column, line))
        column += len(token) + 1
    return places, line + 1


def _token_values(tokens: Sequence[str], attribution: Array) -> np.ndarray:
    values = checked_numbers(attribution, "token attribution")
    if values.ndim == 2 and values.shape[0] == 1:
        values = values[0]
    if values.shape != (len(tokens),) or not len(tokens):
        raise ValueError(
            f"token attribution must hold one value per word, shape ({len(tokens)},) or "
            f"(1, {len(tokens)}), got {values.shape}"
        )
    return values
