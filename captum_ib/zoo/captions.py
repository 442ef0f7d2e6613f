"""Say in words what a scene holds: phrases, templates, and when a caption is true of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ib.zoo.shapes import COLOURS, NAMED_SHAPES
from captum_ib.zoo.tokenizer import BOS, EOS, PAD

MAX_MENTIONS = 3
"""A caption names at most this many objects."""

UNSAID, NO_MENTION = -1, -2
"""Entries of ``mentions``: the phrase leaves this attribute open; there is no such phrase."""

# At most three words before the objects, so that three objects fit into 14 words.
_OPENINGS: tuple[tuple[str, ...], ...] = (
    (),
    ("a", "photo", "of"),
    ("there", "is"),
    ("a", "picture", "of"),
    ("this", "image", "shows"),
    ("we", "see"),
)
_LINKS: tuple[str, ...] = ("and", "with", "next to")
_CLOSINGS: tuple[tuple[str, ...], ...] = ((), ("on", "a", "noisy", "background"))


def vocabulary() -> list[str]:
    """All words that captions use, in the order of their ids, special tokens included."""
    function = {word for part in (*_OPENINGS, *_CLOSINGS) for word in part}
    function |= {word for link in _LINKS for word in link.split()} | {"a", "an", "the", "shape"}
    return [PAD, BOS, *sorted(function), *COLOURS, *NAMED_SHAPES, EOS]


def is_content(word: str) -> bool:
    """Whether a word carries content: the name of a colour or of a shape."""
    return word in COLOURS or word in NAMED_SHAPES


def phrase(colour: int, shape: int) -> list[str]:
    """The words for one object, e.g. ``a red circle``, ``a circle``, ``an orange shape``."""
    described = [] if colour == UNSAID else [list(COLOURS)[colour]]
    described.append("shape" if shape == UNSAID else NAMED_SHAPES[shape])
    return ["an" if described[0][0] in "aeiou" else "a", *described]


def write(mentions: Sequence[Sequence[int]], choice: Sequence[float]) -> list[str]:
    """The words of a caption.

    Args:
        mentions: Per mentioned object its colour id and shape id.
        choice: Three numbers in [0, 1) that choose opening, link and closing.

    Returns:
        The words, at most 14.
    """
    words = list(_OPENINGS[int(choice[0] * len(_OPENINGS))])
    link = _LINKS[int(choice[1] * len(_LINKS))].split()
    for index, (colour, shape) in enumerate(mentions):
        if index:
            # "a, b and c": only the last object gets a link other than "and".
            words += link if index == len(mentions) - 1 and len(mentions) == 2 else ["and"]
        words += phrase(colour, shape)
    if len(words) <= 10:
        words += _CLOSINGS[int(choice[2] * len(_CLOSINGS))]
    return words


def holds(mentions: Tensor, colours: Tensor, shapes: Tensor) -> Tensor:
    """Which captions are true of which images: every phrase describes some object.

    Args:
        mentions: ``(A, M, 2)`` colour and shape ids per phrase.
        colours: ``(B, K)`` colour ids of the objects, -1 where there is none.
        shapes: ``(B, K)`` shape ids of the objects, -1 where there is none.

    Returns:
        ``(A, B)`` bool.
    """
    return (
        describes(mentions[:, None], colours[None], shapes[None])
        .any(-1)
        .where((mentions[:, None, :, 0] != NO_MENTION), torch.tensor(True))
        .all(-1)
    )


def describes(mentions: Tensor, colours: Tensor, shapes: Tensor) -> Tensor:
    """Which phrases describe which objects.

    Args:
        mentions: ``(..., M, 2)`` colour and shape ids per phrase.
        colours: ``(..., K)`` colour ids, -1 where there is no object.
        shapes: ``(..., K)`` shape ids.

    Returns:
        ``(..., M, K)`` bool; a phrase that is not there describes nothing.
    """
    said_colour, said_shape = mentions[..., 0, None], mentions[..., 1, None]
    colour, shape = colours[..., None, :], shapes[..., None, :]
    fits = ((said_colour == colour) | (said_colour == UNSAID)) & (
        (said_shape == shape) | (said_shape == UNSAID)
    )
    return fits & (said_colour != NO_MENTION) & (shape >= 0)
