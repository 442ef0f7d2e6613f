"""What the fields of the page offer, and what stands below them."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from captum_ib import methods
from captum_ib.app import notes
from captum_ib.app.offers import Offer
from captum_ib.app.uploads import FORMATS, Limits
from captum_ib.loading.sounds import Sound


def setting(gr: Any, rows: list[methods.MethodSpec], option: str) -> Any:
    """A field is open when a chosen method reads it, else empty and closed."""
    if has(rows, option):
        return gr.update(interactive=True)
    return gr.update(interactive=False, value=None)


def has(rows: list[methods.MethodSpec], option: str) -> bool:
    """Whether a method reads the option."""
    return any(option in row.options for row in rows)


def rows_of(names: list[str]) -> list[methods.MethodSpec]:
    """The rows of the table of methods."""
    return [methods.get(name) for name in names]


def method_choices(offer: Offer) -> list[tuple[str, str]]:
    """Titles and names of the model's methods."""
    return [(row.title, row.name) for row in offer.methods]


def class_choices(offer: Offer) -> list[tuple[str, str]]:
    """Labels and values of the model's classes; those that share a label by their index."""
    labels = offer.loaded.labels or []
    unique = [label if labels.count(label) == 1 else str(i) for i, label in enumerate(labels)]
    return [("the likeliest", ""), *zip(unique, unique, strict=True)]


def caption_info(offer: Offer) -> str:
    """What stands below the field of the caption, or of the second text."""
    if offer.answers:
        return "About the picture; the model's own answer is explained."
    if offer.texts:
        return "What the first text is compared with."
    if offer.sounds:
        return "What to listen for, in words that the model knows."
    return "What to look for, in words that the model knows."


def first_label(offer: Offer) -> str:
    """The name of the field of the only text, or of the first of two."""
    return "First text" if offer.pair else "Text"


def layers_info(offer: Offer, rows: list[methods.MethodSpec]) -> str:
    """What stands below the field of the layers."""
    takers = [row for row in rows if row.layers != "none"]
    if not takers:
        return "The chosen methods explain the input and have no layers."
    own = "; ".join(f"{row.title} {_short(offer.defaults[row.name])}" for row in takers)
    towers = " For pairs choose one or more of each tower." if offer.loaded.kind == "dual" else ""
    return f"With none chosen each method takes its own: {own}.{towers}"


def _short(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} … {names[-1]}"


def upload_info(offer: Offer, limits: Limits) -> str:
    """What stands below the field of the file: which files are taken."""
    if offer.sounds:
        return (
            f'<p class="ib-quiet">WAV; up to {limits.megabytes:g} MB. Or one of these, which are '
            "made by formulas:</p>"
        )
    known = any(one.question is not None for one in offer.examples)
    return (
        f'<p class="ib-quiet">{", ".join(FORMATS)}; up to {limits.megabytes:g} MB and '
        f"{limits.megapixels:g} megapixels. Or one of these"
        + (", which the bundled models have not seen in training:</p>" if known else ":</p>")
    )


def examples_look(offer: Offer) -> str:
    """What gives the examples' buttons their pictures, or their words."""
    if offer.texts:
        return notes.pairs_html([(one.first, one.question or "") for one in offer.examples])
    pictures = [_picture(offer, one.picture) for one in offer.examples if one.picture is not None]
    small = [picture.resize((168, 168), Image.Resampling.NEAREST) for picture in pictures]
    return notes.examples_html(small)


def _picture(offer: Offer, given: Image.Image | Sound) -> Image.Image:
    """A picture, or the picture of a sound."""
    if isinstance(given, Sound):
        return Image.fromarray((255 * offer.spectrogram(given)).round().astype(np.uint8))
    return given
