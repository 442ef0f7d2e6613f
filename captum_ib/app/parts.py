"""Pieces of HTML: pictures that hold their own data, colour bars, words on their colours."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from captum_ib.visualization import Passage, Scale, Style, amount
from captum_ib.visualization.colors import readable_on
from captum_ib.visualization.panels import Shown

SIDE = 448
"""Pixels of a card's picture, at least; small models see far fewer."""
_STOPS = 17


def words_html(passage: Passage, style: Style, *, lit: Sequence[int] = ()) -> str:
    """A text, each word on the colour of its value, with a colour bar of its own.

    Args:
        passage: the text.
        style: of the colours.
        lit: numbers of the regions that the words light; none for words that light none.
    """
    shown = Shown.of_words(passage, style)
    scale, colors = shown.scale, shown.scale.on_white(shown.values, style)
    spans: list[str] = []
    for i, (token, value, color) in enumerate(
        zip(passage.tokens, shown.values, colors, strict=True)
    ):
        light = f' class="ib-w{lit[i]}" tabindex="0"' if i < len(lit) else ""
        spans.append(
            f'<span{light} style="background:{css(color)};color:{readable_on(color)}" '
            f'title="{amount(value, escape(passage.unit), 3)}">{escape(token)}</span>'
        )
    return f'<p class="ib-words">{" ".join(spans)}</p>{bar(scale, passage.unit, style)}'


def bar(scale: Scale, unit: str, style: Style) -> str:
    """A colour bar with its limits and its unit."""
    colors = scale.on_white(np.linspace(scale.low, scale.high, _STOPS), style)
    gradient = ", ".join(css(color) for color in colors)
    middle = (scale.low + scale.high) / 2
    return (
        f'<div class="ib-bar" role="img" aria-label="colours: {range_of(scale, unit)}">'
        f'<div style="background:linear-gradient(to right, {gradient})"></div>'
        f"<span>{amount(scale.low)}</span><span>{amount(middle, escape(unit))}</span>"
        f"<span>{amount(scale.high)}</span></div>"
    )


def range_of(scale: Scale, unit: str) -> str:
    """The limits of the colours."""
    return f"{amount(scale.low)} to {amount(scale.high, escape(unit))}"


def css(color: np.ndarray) -> str:
    """A colour of a style sheet."""
    red, green, blue = (round(255 * float(part)) for part in color)
    return f"rgb({red},{green},{blue})"


def enlarged(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """``(H, W, 3)``, each pixel repeated until the longer side has ``side`` of them."""
    factor = max(1, math.ceil(side / max(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def img(pixels: np.ndarray, alt: str, kind: str = "") -> str:
    """A picture; ``kind`` are its classes in the style sheet."""
    classes = f'class="{kind}" ' if kind else ""
    return f'<img {classes}alt="{escape(alt)}" src="{data(pixels)}">'


def data(pixels: np.ndarray) -> str:
    """A picture as an address that holds it."""
    picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=90, subsampling=0)
    encoded = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"data:image/jpeg;base64,{encoded}"
