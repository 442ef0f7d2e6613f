"""Answers as HTML: overlays, colour bars and coloured words on cards side by side.

Whatever comes from outside (captions, labels, names of files) is escaped.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from urllib.parse import quote

import numpy as np
from PIL import Image

from captum_ib.app.asking import Answer
from captum_ib.app.results import ARCHIVE
from captum_ib.explaining.results import panel
from captum_ib.explaining.running import Finding
from captum_ib.explaining.subject import Subject
from captum_ib.methods import MethodSpec
from captum_ib.visualization import Panel, Scale, Style, amount, overlay
from captum_ib.visualization.colors import readable_on
from captum_ib.visualization.panels import Passage, Shown

_SIDE = 448  # pixels of a card's picture, at least; small models see far fewer
_STOPS = 17
_STYLE = Style()


def answer_html(answer: Answer, token: str = "", files: Sequence[str] = ()) -> str:
    """The cards of an answer and, when its files are written, the links to them."""
    seen = answer.subject.picture
    if seen is None:
        raise ValueError("the page shows pictures, given two texts")
    pixels = _enlarged(seen.cpu().numpy().transpose(1, 2, 0))
    cards = [_picture_card(answer.subject, pixels)]
    cards += [_result_card(answer.subject, result, pixels) for result in answer.results]
    cards += [_waiting_card(name) for name in answer.waiting]
    links = _downloads(token, files) if files else ""
    return f'<div class="ib-cards">{"".join(cards)}</div>{links}'


def error_html(error: Exception) -> str:
    """What went wrong, in one sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f'<div class="ib-note ib-error" role="alert"><b>Not explained:</b> {escape(text)}</div>'


def note_html(text: str) -> str:
    """A remark on the state of things."""
    return f'<div class="ib-note" role="status">{escape(text)}</div>'


def preview_html(picture: Image.Image, name: str) -> str:
    """The picture that was chosen, small."""
    width, height = picture.size
    small = picture.copy()
    small.thumbnail((_SIDE, _SIDE))
    shown = np.asarray(small, dtype=np.float64) / 255
    alt = f"the chosen picture, {name}"
    return (
        f'<div class="ib-preview">{_img(_enlarged(shown, 224), alt)}'
        f"<div><b>{escape(name)}</b><br>{width} × {height} pixels</div></div>"
    )


def examples_html(pictures: Sequence[Image.Image]) -> str:
    """What gives the buttons of the examples their pictures."""
    rules = [
        f'{_button(i)} {{ background-image: url("{_data(np.asarray(picture) / 255)}"); }}'
        for i, picture in enumerate(pictures)
    ]
    return f"<style>{' '.join(rules)}</style>"


def chosen_html(index: int | None) -> str:
    """What marks the button of the chosen example; none is for an upload."""
    if index is None:
        return ""
    return f"<style>{_button(index)} {{ outline: 2px solid var(--color-accent); }}</style>"


def methods_html(rows: Sequence[MethodSpec]) -> str:
    """What the chosen methods say, and what they cost."""
    items = [
        f"<li><b>{escape(row.title)}</b>, in {escape(row.unit)}: {escape(row.description)} "
        f'<span class="ib-quiet">({escape(row.paper)}; {escape(row.passes)})</span></li>'
        for row in rows
    ]
    return f'<ul class="ib-methods">{"".join(items)}</ul>' if items else ""


def _picture_card(subject: Subject, pixels: np.ndarray) -> str:
    if subject.text is not None:
        said = f"similarity (cosine) {subject.score:.3f}"
        title = f"“{subject.text}”"
    else:
        said = f"probability {100 * subject.score:.1f} %"
        title = subject.label or f"class {subject.target}"
    return _card(
        "What the model sees",
        _img(pixels, "the picture as the model sees it"),
        f'<div class="ib-question">{escape(title)}</div><div class="ib-quiet">{escape(said)}</div>',
    )


def _result_card(subject: Subject, result: Finding, pixels: np.ndarray) -> str:
    drawn = panel(subject, result)
    shown = Shown.of_map(drawn, _STYLE)
    scale = shown.scale
    colored = overlay(pixels, drawn.attribution, scale=scale, style=_STYLE)
    where = ", ".join(result.layers)
    return _card(
        drawn.title,
        _img(colored, f"overlay of {drawn.title}, {_range(scale, drawn.unit)}"),
        _bar(scale, drawn.unit)
        + _remark(shown)
        + _words(drawn)
        + f'<div class="ib-quiet ib-where">at {escape(where)}</div>',
    )


def _remark(shown: Shown) -> str:
    """What colours can't say: that a map is the same everywhere, or that the fit collapsed."""
    return f'<div class="ib-note" role="note">{escape(shown.remark)}</div>' if shown.remark else ""


def _waiting_card(name: str) -> str:
    return _card(name, '<div class="ib-empty">waiting …</div>', "")


def _card(title: str, picture: str, below: str) -> str:
    return f'<figure class="ib-card"><h3>{escape(title)}</h3>{picture}{below}</figure>'


def _words(drawn: Panel) -> str:
    """The caption, each word on the colour of its value, with a colour bar of its own."""
    if drawn.tokens is None or drawn.token_attribution is None or not drawn.tokens:
        return ""
    passage = Passage("", drawn.tokens, drawn.token_attribution, drawn.unit, drawn.signed)
    shown = Shown.of_words(passage, _STYLE)
    scale, colors = shown.scale, shown.scale.on_white(shown.values, _STYLE)
    spans = []
    for token, value, color in zip(drawn.tokens, shown.values, colors, strict=True):
        spans.append(
            f'<span style="background:{_css(color)};color:{readable_on(color)}" '
            f'title="{amount(value, escape(drawn.unit), 3)}">{escape(token)}</span>'
        )
    return f'<p class="ib-words">{" ".join(spans)}</p>{_bar(scale, drawn.unit)}'


def _bar(scale: Scale, unit: str) -> str:
    colors = scale.on_white(np.linspace(scale.low, scale.high, _STOPS), _STYLE)
    gradient = ", ".join(_css(color) for color in colors)
    middle = (scale.low + scale.high) / 2
    return (
        f'<div class="ib-bar" role="img" aria-label="colours: {_range(scale, unit)}">'
        f'<div style="background:linear-gradient(to right, {gradient})"></div>'
        f"<span>{amount(scale.low)}</span><span>{amount(middle, escape(unit))}</span>"
        f"<span>{amount(scale.high)}</span></div>"
    )


def _range(scale: Scale, unit: str) -> str:
    return f"{amount(scale.low)} to {amount(scale.high, escape(unit))}"


def _downloads(token: str, files: Sequence[str]) -> str:
    """Links: the figure first, then everything, then each file."""
    figure = next((name for name in files if name.endswith("-compare.png")), None)
    figure = figure or next(name for name in files if name.endswith(".png"))
    links = [
        _link(token, figure, "Figure (PNG)", "ib-button"),
        _link(token, ARCHIVE, "Everything (ZIP)", "ib-button"),
    ]
    each = "".join(f"<li>{_link(token, name, name, '')}</li>" for name in files)
    return (
        f'<div class="ib-downloads">{"".join(links)}<details><summary>Single files: figures, '
        f"arrays (.npz), settings (.json)</summary><ul>{each}</ul></details></div>"
    )


def _link(token: str, name: str, text: str, style: str) -> str:
    href = escape(f"results/{token}/{quote(name)}")
    return f'<a class="{style}" href="{href}" download="{escape(name)}">{escape(text)}</a>'


def _css(color: np.ndarray) -> str:
    red, green, blue = (round(255 * float(part)) for part in color)
    return f"rgb({red},{green},{blue})"


def _enlarged(pixels: np.ndarray, side: int = _SIDE) -> np.ndarray:
    """``(H, W, 3)``, each pixel repeated until the longer side has ``side`` of them."""
    factor = max(1, math.ceil(side / max(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _button(index: int) -> str:
    return f"#ib-examples #ib-example-{index + 1}"


def _img(pixels: np.ndarray, alt: str) -> str:
    return f'<img alt="{escape(alt)}" src="{_data(pixels)}">'


def _data(pixels: np.ndarray) -> str:
    """A picture as an address that holds it."""
    picture = Image.fromarray((pixels * 255).round().astype(np.uint8))
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=90, subsampling=0)
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return f"data:image/jpeg;base64,{encoded}"
