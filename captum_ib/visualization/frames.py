"""The figure of a video or a volume: its frames in a strip, each below its part of a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from captum_ib.visualization.colors import Array, Scale, checked_numbers, enlarged, overlay
from captum_ib.visualization.numbers import amount
from captum_ib.visualization.sheet import GAP, HEADING, RANGE_LINE, TITLE_LINE, Sheet, bar_width
from captum_ib.visualization.style import Style

SIDE = 1.5
"""Side of a frame, in inches."""
_LINE = SIDE + TITLE_LINE + RANGE_LINE + GAP


def frames(
    images: Array | Sequence[Array],
    attribution: Array,
    *,
    unit: str = "bits",
    signed: bool | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
    style: Style | None = None,
) -> Figure:
    """A strip of frames, or slices, in rows that wrap; all on one scale.

    Where one position of the map stands for several frames (tubelets), each of them has it.

    Args:
        images: (F, 3, H, W) or (F, H, W, 3) in [0, 1]; slices (F, H, W) become grey.
        attribution: (d, h, w), (1, d, h, w) or (1, 1, d, h, w), with F a multiple of d.
        unit: of the values.
        signed: see :meth:`Scale.of`.
        names: above the frames (default: their numbers, from 1).
        title: above all.
        style: see :class:`~captum_ib.visualization.Style`; ``columns`` frames in a row.

    Raises:
        ValueError: shapes or names that don't fit.

    >>> figure = frames(np.zeros((4, 8, 8, 3)), np.arange(8.0).reshape(2, 2, 2))
    >>> [axis.get_title() for axis in figure.axes if axis.get_title()]
    ['1', '2', '3', '4']
    """
    style = style or Style()
    values = checked_numbers(attribution, "attribution")
    while values.ndim > 3 and len(values) == 1:
        values = values[0]
    pictures = [enlarged(_rgb(one)) for one in images]
    if values.ndim != 3 or not len(pictures) or len(pictures) % len(values):
        raise ValueError(
            f"a map of shape {tuple(np.shape(attribution))} does not fit {len(pictures)} frames: "
            "expected (d, h, w) of one sample, with as many frames as d or a multiple"
        )
    names = [str(i) for i in range(1, 1 + len(pictures))] if names is None else names
    if len(names) != len(pictures):
        raise ValueError(f"given {len(names)} names for {len(pictures)} frames")
    scale = Scale.of(values, signed, style=style, unit=unit)
    columns = min(style.columns, len(pictures))
    rows = -(-len(pictures) // columns)
    top = GAP + HEADING + (2 * TITLE_LINE if title else 0.0)
    sheet = Sheet(columns * (SIDE + GAP) + GAP, top + rows * _LINE)
    if title:
        sheet.write(GAP, GAP / 2, title, 10)
    width = columns * (SIDE + GAP) - GAP
    sheet.heading(GAP, top - HEADING, width, f"{amount(float(values.sum()))} {unit}")
    sheet.bar(GAP + width, top - HEADING + 0.03, bar_width(SIDE), [scale], style)
    share = len(pictures) // len(values)
    for place, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        part = values[place // share]
        left, line = GAP + place % columns * (SIDE + GAP), top + place // columns * _LINE
        shown = overlay(picture, part, scale=scale, style=style)
        sheet.picture(left, line + TITLE_LINE, SIDE, shown, name)
        limits = f"{amount(float(part.min()))} to {amount(float(part.max()))}"
        sheet.range(left, line + TITLE_LINE + SIDE + 0.03, limits)
    return sheet.figure


def _rgb(one: Array) -> Array:
    """A slice as a picture of three equal channels."""
    if one.ndim != 2:
        return one
    return np.asarray(checked_numbers(one, "slice"))[..., None].repeat(3, axis=-1)
