"""The figure of interactions: the caption as a strip of words, and the region of each word."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from captum_ib.visualization.colors import Array, checked_numbers
from captum_ib.visualization.figures import compare
from captum_ib.visualization.panels import Panel
from captum_ib.visualization.style import Style


def word_regions(
    image: Array,
    interactions: Array,
    tokens: Sequence[str],
    *,
    skip: Sequence[str] = (),
    signed: bool = True,
    title: str = "",
    unit: str = "cosine",
    style: Style | None = None,
) -> Figure:
    """The picture, the sum over all words with the words' own sums, and one map per word.

    Args:
        image: (3, H, W) or (H, W, 3), values in [0, 1].
        interactions: (T, h, w), a map per word: one sample of ``interactions(...)`` of ExCLIP,
            FIxLIP or CA-M2IB.
        tokens: T words; further maps, for padding, are left out.
        skip: words that get no map (begin, end); the sums leave them out, too.
        signed: whether values below 0 occur and mean something.
        title: above the picture.
        unit: of the interactions.
        style: see :class:`~captum_ib.visualization.Style`.

    Raises:
        ValueError: interactions of another shape, or no word that is left.

    >>> import numpy as np
    >>> maps = np.stack([np.zeros((3, 3)), np.eye(3), -np.eye(3)])
    >>> figure = word_regions(np.ones((8, 8, 3)), maps, ["<bos>", "red", "ring"], skip=["<bos>"])
    >>> [axis.get_title() for axis in figure.axes if axis.get_title()]
    ['all words', 'red', 'ring']
    """
    maps = checked_numbers(interactions, "interactions")
    if maps.ndim != 3 or len(maps) < len(tokens):
        raise ValueError(
            f"interactions must have shape (T, h, w) with T ≥ {len(tokens)} words, given "
            f"{maps.shape}"
        )
    shown = [(word, one) for word, one in zip(tokens, maps, strict=False) if word not in skip]
    if not shown:
        raise ValueError(f"no word is left to draw: tokens {list(tokens)}, skip {list(skip)}")
    words = [word for word, _ in shown]
    sums = np.array([float(one.sum()) for _, one in shown])
    whole = np.stack([one for _, one in shown]).sum(axis=0)
    panels = [Panel("all words", whole, unit, signed, words, sums)]
    panels += [Panel(word, one, unit, signed) for word, one in shown]
    return compare(image, panels, title=title, style=style)
