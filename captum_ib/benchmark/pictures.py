"""Small PNGs of what the model saw and of what it should have looked at."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image
from torch import Tensor

SIDE = 224
"""Longest side of a stored picture, pixels."""


def thumbnail(picture: Tensor) -> bytes:
    """``(3, H, W)`` in [0, 1] as a PNG of at most 224 pixels a side."""
    pixels = (picture.float().cpu() * 255).round().byte().permute(1, 2, 0).numpy()
    return _png(Image.fromarray(pixels), Image.Resampling.BILINEAR)


def mask_png(mask: np.ndarray) -> bytes:
    """``(H, W)`` bool as a PNG of two colours, of the same size as the thumbnail."""
    return _png(Image.fromarray(mask), Image.Resampling.NEAREST)


def _png(image: Image.Image, resample: Image.Resampling) -> bytes:
    longest = max(image.size)
    if longest > SIDE:
        size = [max(1, round(side * SIDE / longest)) for side in image.size]
        image = image.resize((size[0], size[1]), resample)
    file = BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
