"""Answers as HTML: overlays, colour bars and coloured words on cards side by side.

Whatever comes from outside (captions, labels, names of files) is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from urllib.parse import quote

import numpy as np

from captum_ib import methods
from captum_ib.app.asking import Answer
from captum_ib.app.parts import bar, enlarged, img, range_of, words_html
from captum_ib.app.results import ARCHIVE
from captum_ib.explaining.results import panel, passages
from captum_ib.explaining.running import Finding
from captum_ib.explaining.subject import Subject
from captum_ib.explaining.summary import amount
from captum_ib.visualization import Style, overlay
from captum_ib.visualization.panels import Shown

LIT = 40
"""Words of a caption, at most, that light their regions."""
_NAMED = 4  # layers that a card names
_REGION = 224  # pixels of a region's picture, at least


def answer_html(
    answer: Answer, token: str = "", files: Sequence[str] = (), style: Style | None = None
) -> str:
    """The cards of an answer and, when its files are written, the links to them."""
    style, subject = style or Style(), answer.subject
    seen = subject.picture
    pixels = None if seen is None else seen.cpu().numpy().transpose(1, 2, 0)
    cards = [_question_card(subject, pixels)]
    cards += [_result_card(subject, result, pixels, style) for result in answer.results]
    cards += [_waiting_card(name) for name in answer.waiting]
    links = _downloads(token, files) if files else ""
    kind = "ib-cards" if pixels is not None else "ib-cards ib-wide"
    return f'<div class="{kind}">{"".join(cards)}</div>{links}'


def _question_card(subject: Subject, pixels: np.ndarray | None) -> str:
    titles = [f"“{words.text}”" for words in subject.words]
    if subject.answering is not None:
        said = f"probability {100 * subject.score:.1f} %; with a grey picture "
        said += f"{100 * subject.answering.alone:.1f} %"
    elif subject.pair:
        said = f"similarity (cosine) {subject.score:.3f}"
    else:
        said = f"probability {100 * subject.score:.1f} %"
        titles.append(subject.label or f"class {subject.target}")
    lines = "".join(f'<div class="ib-question">{escape(title)}</div>' for title in titles)
    what = "sound" if subject.sound else "picture"
    seen = "" if pixels is None else img(enlarged(pixels), f"the {what} as the model takes it")
    heading = "What the model reads" if pixels is None else "What the model sees"
    heading = "What the model hears" if subject.sound else heading
    return _card(heading, seen, f'{lines}<div class="ib-quiet">{escape(said)}</div>')


def _result_card(subject: Subject, result: Finding, pixels: np.ndarray | None, style: Style) -> str:
    tried = ", ".join(" and ".join(f"{beta:g}" for beta in betas) for betas in result.tried)
    again = f"; collapsed at β {tried}" if tried else ""
    where = _where(list(dict.fromkeys(result.layers)))  # two texts share theirs
    said = f"{amount(result)}, {result.seconds:.1f} s, at {where}{again}"
    below = f'<div class="ib-quiet ib-where">{_breakable(said)}</div>{_advice(result)}'
    if pixels is None:
        return _card(result.row.shown, "", _texts(subject, result, style) + below)
    drawn = panel(subject, result)
    shown = Shown.of_map(drawn, style)
    scale = shown.scale
    colored = overlay(enlarged(pixels), drawn.attribution, scale=scale, style=style)
    alt = f"overlay of {drawn.title}, {range_of(scale, drawn.unit)}"
    regions = _regions(subject, result, pixels, style)
    lit = range(len(regions))
    words = "" if drawn.text is None else words_html(drawn.text, style, lit=lit)
    hint = '<p class="ib-quiet">Point at a word: where it looks.</p>' if regions else ""
    return _card(
        drawn.title,
        f'<div class="ib-seen">{img(colored, alt)}{"".join(regions)}</div>',
        bar(scale, drawn.unit, style) + _remark(shown) + words + hint + below,
    )


def _regions(subject: Subject, result: Finding, pixels: np.ndarray, style: Style) -> list[str]:
    """For each word of the caption a picture of the region that it looks at."""
    if result.attention is None:
        return []
    small = enlarged(pixels, _REGION)
    plain = replace(style, masked=False, contours=0)
    regions: list[str] = []
    for number, place in enumerate(subject.words[-1].shown[:LIT]):
        shown = overlay(small, result.attention[place], signed=False, style=plain)
        alt = f"where the word “{subject.words[-1].tokens[place]}” looks"
        regions.append(img(shown, alt, f"ib-region ib-r{number}"))
    return regions


def _texts(subject: Subject, result: Finding, style: Style) -> str:
    """Two texts of a method, below each other, each with its words on their colours."""
    parts = (
        words_html(passage, style) + _remark(Shown.of_words(passage, style))
        for passage in passages(subject, result)
    )
    return "".join(parts)


def _where(names: Sequence[str]) -> str:
    """The layers; of many the first and the last, all of them are in the settings' file."""
    if len(names) <= _NAMED:
        return ", ".join(names)
    return f"{names[0]} … {names[-1]} ({len(names)} layers)"


def _remark(shown: Shown) -> str:
    """What colours can't say: that a map is the same everywhere, or that the fit collapsed."""
    return f'<div class="ib-note" role="note">{escape(shown.remark)}</div>' if shown.remark else ""


def _breakable(text: str) -> str:
    """Escaped; names of layers may break behind their dots."""
    return re.sub(r"\.(?=[A-Za-z_0-9]*[A-Za-z_])", ".<wbr>", escape(text))


def _advice(result: Finding) -> str:
    """What to try where a map collapsed."""
    mends = list(dict.fromkeys(one.mend for one in result.collapses if one is not None))
    return f'<div class="ib-note" role="note">{escape("; ".join(mends))}</div>' if mends else ""


def _waiting_card(name: str) -> str:
    title = methods.get(name).title
    return _card(title, '<div class="ib-empty">waiting …</div>', "")


def _card(title: str, picture: str, below: str) -> str:
    return f'<figure class="ib-card"><h3>{escape(title)}</h3>{picture}{below}</figure>'


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
