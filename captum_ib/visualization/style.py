"""How figures look: one set of controls for Python, the command line, the page and the gallery."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from matplotlib import colormaps

SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
NEGATIVE = "Blues_r"
"""For maps without a positive value: the blue half of the diverging colours."""
_MIDDLE_IS_ZERO = frozenset(
    "PiYG PRGn BrBG PuOr RdGy RdBu RdYlBu RdYlGn Spectral coolwarm bwr seismic berlin managua "
    "vanimo".split()
)


@dataclass(frozen=True)
class Style:
    """How a map is laid over its picture.

    Args:
        opacity: share of the colour where the map is strong, in [0, 1]; a value of 0 is
            transparent everywhere.
        cmap: name of a matplotlib colour map (default: viridis, and RdBu reversed for maps with
            both signs). A diverging one is for maps with both signs, any other for the rest.
        grey: show the picture in grey below the colours.
        contours: this many lines of equal value, 0 for none.
        masked: show what remains: the picture seen through the map, and no colours. Of maps with
            both signs only the positive values let it through.
        percentile: of the map's magnitudes, where its colours end, in (0, 100]; 100 clips nothing.
        columns: pictures side by side in a figure, at most.

    Raises:
        ValueError: a number out of its range, or a colour map that matplotlib does not know.
        TypeError: a value of another kind.

    >>> Style(opacity=0.5, grey=True)
    Style(opacity=0.5, cmap=None, grey=True, contours=0, masked=False, percentile=99.5, columns=5)
    """

    opacity: float = 0.75
    cmap: str | None = None
    grey: bool = False
    contours: int = 0
    masked: bool = False
    percentile: float = 99.5
    columns: int = 5

    def __post_init__(self) -> None:
        for name in ("grey", "masked"):
            if not isinstance(getattr(self, name), bool):
                raise TypeError(f"{name} is True or False, given {getattr(self, name)!r}")
        _require(self, "opacity", 0, 1)
        _require(self, "percentile", 0, 100, open_low=True)
        _require(self, "contours", 0, 20, whole=True)
        _require(self, "columns", 2, 12, whole=True)
        if self.cmap is not None and self.cmap not in colormaps:
            near = difflib.get_close_matches(str(self.cmap), list(colormaps), n=3, cutoff=0.4)
            hint = f"; nearest: {', '.join(near)}" if near else ""
            raise ValueError(f"matplotlib knows no colour map {self.cmap!r}{hint}")

    @property
    def sequential(self) -> str:
        """The colours of maps without a value below 0."""
        return self.cmap if self.cmap and not is_diverging(self.cmap) else SEQUENTIAL

    @property
    def negative(self) -> str:
        """The colours of maps without a value above 0; the last one is that of 0."""
        return NEGATIVE if self.sequential == SEQUENTIAL else _reversed(self.sequential)

    @property
    def diverging(self) -> str:
        """The colours of maps with both signs; the middle one is that of 0."""
        return self.cmap if self.cmap and is_diverging(self.cmap) else DIVERGING


@dataclass(frozen=True)
class Control:
    """One control of :class:`Style`, as a command line or a page offers it.

    Attributes:
        name: the keyword of :class:`Style`.
        flag: the option of the command line.
        help: what it does, in a few words.
        default: its value when nothing is said.
        low, high, step: its range, of a number.
        choices: some good values, of a name.
    """

    name: str
    flag: str
    help: str
    default: Any
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()


CONTROLS: tuple[Control, ...] = (
    Control("opacity", "--opacity", "share of the colour over the picture", 0.75, 0.0, 1.0, 0.05),
    Control(
        "cmap",
        "--cmap",
        "colour map of matplotlib (default: viridis, RdBu for both signs)",
        None,
        choices=("viridis", "cividis", "magma", "inferno", "Reds", "RdBu_r", "PuOr_r"),
    ),
    Control("grey", "--grey", "the picture in grey below the colours", False),
    Control("contours", "--contours", "lines of equal value", 0, 0, 20, 1),
    Control("masked", "--what-remains", "the picture seen through the map", False),
)
"""The controls of a single picture that every surface offers, in the order of display."""


def style_from(values: Mapping[str, Any]) -> Style:
    """A style from a surface's values; ``None`` stands for the default.

    Raises:
        ValueError: a name that :class:`Style` does not know; also what it raises itself.

    >>> style_from({"opacity": 0.5, "cmap": None}).opacity
    0.5
    """
    known = [field.name for field in fields(Style)]
    for name in values:
        if name not in known:
            raise ValueError(f"a style has no {name!r}; it has {', '.join(known)}")
    return Style(**{name: value for name, value in values.items() if value is not None})


def is_diverging(cmap: str) -> bool:
    """Whether the middle colour of a map stands for 0."""
    return cmap.removesuffix("_r") in _MIDDLE_IS_ZERO


def _reversed(cmap: str) -> str:
    return cmap.removesuffix("_r") if cmap.endswith("_r") else f"{cmap}_r"


def _require(
    style: Style,
    name: str,
    low: float,
    high: float,
    *,
    open_low: bool = False,
    whole: bool = False,
) -> None:
    value = getattr(style, name)
    kinds = int if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise TypeError(f"{name} is a {'whole ' if whole else ''}number, given {value!r}")
    if not low <= value <= high or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise ValueError(f"{name} must lie in {bracket}{low}, {high}], given {value}")
