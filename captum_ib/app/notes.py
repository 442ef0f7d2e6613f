"""What stands around the cards as HTML: remarks, errors, the chosen picture, the methods.

Whatever comes from outside (captions, labels, names of files) is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

import numpy as np
from PIL import Image

from captum_ib.app.parts import SIDE, data, enlarged, img
from captum_ib.app.pulse import Pulse
from captum_ib.loading.sounds import Sound, as_wav
from captum_ib.methods import MethodSpec


def error_html(error: Exception) -> str:
    """What went wrong, in one sentence."""
    text = " ".join(str(error).split()) or type(error).__name__
    return f'<div class="ib-note ib-error" role="alert"><b>Not explained:</b> {escape(text)}</div>'


def note_html(text: str, *, pulse: Pulse | None = None, link: str = "") -> str:
    """A remark on the state of things; with a pulse steps and seconds, perhaps with a link."""
    more = "" if pulse is None else _pulse(pulse)
    if link:
        more = f' <a href="{escape(link)}">link to this question</a>'
    return f'<div class="ib-note" role="status">{escape(text)}{more}</div>'


def _pulse(pulse: Pulse) -> str:
    # Whoever hears the page is not told twice a second.
    steps = f"step {pulse.done} of {pulse.total}, " if pulse.total else ""
    bar = f'<progress max="{pulse.total}" value="{pulse.done}"></progress>' if pulse.total else ""
    return f'<span class="ib-pulse" aria-hidden="true">{steps}{pulse.seconds:.0f} s{bar}</span>'


def preview_html(picture: Image.Image, name: str) -> str:
    """The picture that was chosen, small."""
    width, height = picture.size
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    shown = np.asarray(small, dtype=np.float64) / 255
    alt = f"the chosen picture, {name}"
    return (
        f'<div class="ib-preview">{img(enlarged(shown, 224), alt)}'
        f"<div><b>{escape(name)}</b><br>{width} × {height} pixels</div></div>"
    )


def sound_html(sound: Sound, seen: np.ndarray, name: str) -> str:
    """The sound that was chosen: its spectrogram ``(H, W, 3)``, and a player."""
    alt = f"spectrogram of the chosen sound, {name}"
    wave = base64.b64encode(as_wav(sound)).decode("ascii")
    return (
        f'<div class="ib-preview">{img(enlarged(seen, 224), alt)}'
        f"<div><b>{escape(name)}</b><br>{sound.seconds:.1f} s, {sound.rate} Hz<br>"
        f'<audio controls src="data:audio/wav;base64,{wave}"></audio></div></div>'
    )


def pairs_html(pairs: Sequence[tuple[str, str]]) -> str:
    """What gives the buttons of examples of two texts their words."""
    rules = [
        f'{_button(i)}::before {{ content: "{_quoted(one)}\\A {_quoted(other)}"; }}'
        for i, (one, other) in enumerate(pairs)
    ]
    wide = (
        "#ib-examples#ib-examples { grid-template-columns: 1fr 1fr; }"
        "#ib-examples#ib-examples button { aspect-ratio: auto; justify-content: start; }"
    )
    return f"<style>{wide} {' '.join(rules)}</style>"


def _quoted(text: str) -> str:
    """A text within quotes of a style sheet: letters that mean something there as numbers."""
    return "".join(c if c.isalnum() or c in " .,!?" else f"\\{ord(c):06x}" for c in text)


def examples_html(pictures: Sequence[Image.Image]) -> str:
    """What gives the buttons of the examples their pictures."""
    rules = [
        f'{_button(i)} {{ background-image: url("{data(np.asarray(picture) / 255)}"); }}'
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


def _button(index: int) -> str:
    return f"#ib-examples #ib-example-{index + 1}"
