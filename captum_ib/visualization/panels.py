"""One method's result, and what a figure shows of it: cells, scales, and remarks in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from captum_ib.collapse import FLOOR_BITS
from captum_ib.visualization.colors import Array, Scale, one_map, pooled
from captum_ib.visualization.numbers import amount
from captum_ib.visualization.style import Style
from captum_ib.visualization.words import token_values

RANGE_COLUMNS = 42
"""Small letters to the width of a picture."""
_PALE = 4.0  # how far the colours of a collapsed map reach beyond its strongest value
_SAME = 1e-6  # values that differ by less than this share are the same


@dataclass(frozen=True)
class Panel:
    """One method's map in a figure.

    Args:
        title: shown above the map.
        attribution: (h, w), (1, h, w) or (1, 1, h, w).
        unit: of the values, e.g. ``"bits"``, ``"logits"`` or ``"cosine"``.
        signed: see :meth:`Scale.of`.
        tokens: words of the caption, or ``None`` when there is no text.
        token_attribution: (T,) or (1, T), one value per word.
        collapsed: whether the fit kept nothing or everything, which the figure marks
            (:func:`captum_ib.collapse.is_collapsed`); ``None``: in bits, where no place has one.
    """

    title: str
    attribution: Array
    unit: str = "bits"
    signed: bool | None = None
    tokens: Sequence[str] | None = None
    token_attribution: Array | None = None
    collapsed: bool | None = None

    def __post_init__(self) -> None:
        if (self.tokens is None) != (self.token_attribution is None):
            raise ValueError(
                f"panel {self.title!r}: tokens and token_attribution belong together; "
                "pass both or neither"
            )

    @property
    def text(self) -> Passage | None:
        """The caption alone."""
        if self.tokens is None or self.token_attribution is None:
            return None
        of_words = False if self.collapsed is False else None  # a picture's fit says nothing of it
        given = (self.tokens, self.token_attribution, self.unit, self.signed)
        return Passage(self.title, *given, of_words)


@dataclass(frozen=True)
class Passage:
    """One text with a value per word, in a figure of texts alone.

    Args:
        title: shown above it, e.g. the method and which of two texts it is.
        tokens: T words.
        attribution: (T,) or (1, T), one value per word.
        unit, signed, collapsed: as in :class:`Panel`.
    """

    title: str
    tokens: Sequence[str]
    attribution: Array
    unit: str = "bits"
    signed: bool | None = None
    collapsed: bool | None = None


@dataclass(frozen=True)
class Shown:
    """Values as they are drawn.

    Attributes:
        values: ``(h, w)`` of a map, pooled where it is fine; ``(T,)`` of words.
        scale: their colours.
        total: sum of the values as they were given.
        unit: of the values.
        block: side of a pooled block.
        collapsed: see :class:`Panel`.
    """

    values: np.ndarray
    scale: Scale
    total: float
    unit: str
    block: int = 1
    collapsed: bool = False

    @classmethod
    def of_map(cls, panel: Panel, style: Style) -> Shown:
        """The map of a panel."""
        values, block = pooled(panel.attribution)
        scale = Scale.of(values, panel.signed, style=style, unit=panel.unit)
        total = float(one_map(panel.attribution).sum())
        lost = _lost(values, panel.unit, panel.collapsed)
        return cls(values, _pale(scale, lost), total, panel.unit, block, lost)

    @classmethod
    def of_words(cls, passage: Passage, style: Style) -> Shown:
        """The words of a passage; none of them is clipped."""
        values = token_values(passage.tokens, passage.attribution)
        whole = replace(style, percentile=100.0)
        scale = Scale.of(values, passage.signed, style=whole, unit=passage.unit).from_zero()
        lost = _lost(values, passage.unit, passage.collapsed)
        return cls(values, _pale(scale, lost), float(values.sum()), passage.unit, 1, lost)

    @property
    def sides(self) -> str:
        """On which side of 0 the scale lies: ``"above"``, ``"below"`` or ``"both"``."""
        if self.scale.low < 0 < self.scale.high:
            return "both"
        return "below" if self.scale.low < 0 else "above"

    def on_both_sides(self, style: Style) -> Shown:
        """The same with a scale symmetric about 0, to stand beside one that has both signs."""
        top = max(-self.scale.low, self.scale.high)
        scale = Scale(-top, top, style.diverging, 0.0, self.scale.clipped)
        return replace(self, scale=scale)

    @property
    def range(self) -> str:
        """The limits in numbers, the total of bits, and what display has changed, in lines."""
        low, high = (amount(end) for end in (self.scale.low, self.scale.high))
        parts = [f"{low} to {high}"]
        if self.unit == "bits":
            parts.append(f"{amount(self.total)} in all")
        if self.scale.clipped is not None:
            parts.append(f"clipped at {self.scale.clipped:g} %")
        if self.block > 1:
            parts.append(f"means of {self.block} × {self.block}")
        lines = [parts[0]]
        for part in parts[1:]:
            fits = len(lines[-1]) + len(part) + 3 <= RANGE_COLUMNS
            lines[-1:] = [f"{lines[-1]} · {part}"] if fits else [lines[-1], part]
        return "\n".join(lines)

    @property
    def remark(self) -> str:
        """What colours can't say: that all values are the same, or that the fit collapsed."""
        low, high = float(self.values.min()), float(self.values.max())
        if high - low <= _SAME * max(abs(low), abs(high)):
            return f"{amount(high)} everywhere"
        if self.collapsed and high < FLOOR_BITS:
            return f"collapsed: at most {amount(high)} bits"
        return "collapsed: no selection" if self.collapsed else ""


class Drawn:
    """A panel with what is drawn of it.

    Args:
        panel: the panel.
        style: colours and clipping.
    """

    def __init__(self, panel: Panel, style: Style) -> None:
        self.panel, self.style = panel, style
        self.map = Shown.of_map(panel, style)
        text = panel.text
        self.words = None if text is None else Shown.of_words(text, style)
        if self.words is not None and {self.map.sides, self.words.sides} not in (
            {"above"},
            {"below"},
        ):
            self.map = self.map.on_both_sides(style)
            self.words = self.words.on_both_sides(style)

    @cached_property
    def group(self) -> tuple[str, str]:
        """Unit and signs: what shares a colour bar."""
        return self.panel.unit, self.map.sides

    @property
    def scales(self) -> list[Scale]:
        """Of the map and of the words."""
        return [self.map.scale, *([] if self.words is None else [self.words.scale])]


def _pale(scale: Scale, lost: bool) -> Scale:
    """A scale that gives a collapsed map no strong colour; below one bit it has none anyhow."""
    strong = lost and scale.low == 0 and scale.high > FLOOR_BITS
    return replace(scale, high=_PALE * scale.high) if strong else scale


def _lost(values: np.ndarray, unit: str, told: bool | None) -> bool:
    return (unit == "bits" and float(values.max()) < FLOOR_BITS) if told is None else told
