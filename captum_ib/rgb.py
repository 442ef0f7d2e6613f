"""Any picture as 8-bit RGB: deep ones are scaled, where Pillow's own conversion cuts them off."""

from __future__ import annotations

import numpy as np
from PIL import Image

LARGEST = (2**8 - 1, 2**16 - 1, 2**31 - 1)
"""White in pictures with 8, 16 and 32 bits (Pillow's are signed)."""


def as_rgb(picture: Image.Image) -> Image.Image:
    """The picture in mode RGB, as its 8-bit copy would look.

    Transparency is dropped. Pictures with more than 8 bits are scaled: 16 bits by 255/65535; where
    the mode does not say what white is (``"I"``, 32 bits; ``"F"``, float), white is the least of
    255, 65535 and 2³¹ − 1 that no pixel exceeds, and 1 for floats that don't exceed it.

    Raises:
        ValueError: a deep picture with values below 0, above those, or not finite.

    >>> deep = Image.fromarray(np.full((2, 2), 32639, dtype=np.uint16))
    >>> as_rgb(deep).getpixel((0, 0))
    (127, 127, 127)
    """
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        picture = _scaled(np.asarray(picture).astype(np.float64), picture.mode)
    return picture.convert("RGB")


def _scaled(values: np.ndarray, mode: str) -> Image.Image:
    white = LARGEST[1] if mode.startswith("I;16") else _white(values, mode)
    # Cut off, as Pillow does with 16-bit RGB; but 28.99999 is a 29 that was divided and multiplied.
    return Image.fromarray(np.floor(values * (255 / white) + 1e-3).astype(np.uint8))


def _white(values: np.ndarray, mode: str) -> float:
    """What is white in a picture whose mode does not say it."""
    low, high = float(values.min()), float(values.max())
    fitting = [white for white in ((1, *LARGEST) if mode == "F" else LARGEST) if high <= white]
    if not fitting or not low >= 0:  # NaN is neither
        raise ValueError(
            f"a picture of mode {mode} with values from {low:g} to {high:g} has no known white; "
            "save it with 8 or 16 bits, or as floats from 0 to 1"
        )
    return fitting[0]
