"""The figure of cross-attention: for each word, the regions of the picture that it looks at."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from captum_ib.visualization.colors import Array, checked_numbers
from captum_ib.visualization.figures import compare
from captum_ib.visualization.panels import Panel
from captum_ib.visualization.style import Style


def attention(
    image: Array,
    weights: Array,
    tokens: Sequence[str],
    *,
    skip: Sequence[str] = (),
    title: str = "",
    unit: str = "attention",
    style: Style | None = None,
) -> Figure:
    """The picture, and one panel per word: where it looks.

    Args:
        image: (3, H, W) or (H, W, 3), values in [0, 1]; a spectrogram as three equal channels.
        weights: (T, h, w), the attention of each word over the picture's grid: one sample of
            ``CrossAttention.over_keys()`` of the text's direction, or of ``over_queries()`` of the
            image's.
        tokens: T words; further rows of ``weights``, for padding, are left out.
        skip: words that get no panel (begin, end).
        title: above the picture.
        unit: of the weights.
        style: see :class:`~captum_ib.visualization.Style`.

    Raises:
        ValueError: weights of another shape, or no word that is left.

    >>> import numpy as np
    >>> figure = attention(np.ones((8, 8, 3)), np.eye(3)[None].repeat(2, 0), ["<bos>", "red"],
    ...                    skip=["<bos>"])
    >>> [axis.get_title() for axis in figure.axes if axis.get_title()]
    ['red']
    """
    maps = checked_numbers(weights, "attention weights")
    if maps.ndim != 3 or len(maps) < len(tokens):
        raise ValueError(
            f"attention weights must have shape (T, h, w) with T ≥ {len(tokens)} words, got "
            f"{maps.shape}"
        )
    panels = [
        Panel(word, values, unit, False)
        for word, values in zip(tokens, maps, strict=False)
        if word not in skip
    ]
    if not panels:
        raise ValueError(f"no word is left to draw: tokens {list(tokens)}, skip {list(skip)}")
    return compare(image, panels, title=title, style=style)
