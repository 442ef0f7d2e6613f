"""Regions of an image as COCO writes them: boxes, polygons, and run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Size = tuple[int, int]
"""(height, width) of an image."""


def box_mask(box: Sequence[float], size: Size) -> np.ndarray:
    """``(H, W)`` bool: the pixels whose centres lie in a box ``[x, y, width, height]``.

    Raises:
        ValueError: it is no such box.

    >>> box_mask([1, 0, 2, 1], (2, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    x, y, width, height = _numbers(box, "a box", 4)
    rows, columns = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
    inside_rows = (rows >= y) & (rows < y + height)
    return inside_rows[:, None] & ((columns >= x) & (columns < x + width))


def polygon_mask(polygons: Sequence[Sequence[float]], size: Size) -> np.ndarray:
    """``(H, W)`` bool: the pixels whose centres lie in some polygon ``[x0, y0, x1, y1, ...]``.

    Raises:
        ValueError: a polygon of fewer than three corners.

    >>> polygon_mask([[0, 0, 2, 0, 2, 2, 0, 2]], (3, 3)).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    """
    mask = np.zeros(size, dtype=bool)
    for polygon in polygons:
        numbers = _numbers(polygon, "a polygon")
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(f"a polygon needs x and y of 3 corners or more, given {len(numbers)}")
        mask |= _fill(np.array(numbers, dtype=np.float64).reshape(-1, 2), size)
    return mask


def _fill(corners: np.ndarray, size: Size) -> np.ndarray:
    """A pixel is inside when the edges cross its row an odd number of times to the left of it."""
    height, width = size
    crossings = np.zeros((height, width + 1), dtype=np.int64)
    middles = np.arange(height) + 0.5
    for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        rows = np.flatnonzero((middles >= min(y0, y1)) & (middles < max(y0, y1)))
        if len(rows):
            x = x0 + (middles[rows] - y0) * (x1 - x0) / (y1 - y0)
            crossings[rows, np.clip(np.ceil(x - 0.5), 0, width).astype(np.int64)] += 1
    return crossings[:, :width].cumsum(axis=1) % 2 == 1


def run_length_mask(code: Mapping[str, Any], size: Size) -> np.ndarray:
    """``(H, W)`` bool from run lengths, down the columns: plain ``counts``, or COCO's packed text.

    Args:
        code: ``{"size": [H, W], "counts": […] or "…"}``.
        size: of the image, which ``size`` must agree with.

    Raises:
        ValueError: it is no such code, or is for an image of another size.

    >>> run_length_mask({"size": [2, 2], "counts": [1, 2, 1]}, (2, 2)).astype(int).tolist()
    [[0, 1], [1, 0]]
    """
    own = code.get("size")
    if not isinstance(own, (list, tuple)) or tuple(own) != tuple(size):
        raise ValueError(f"run lengths are for size {own}, the image has {list(size)}")
    counts = code.get("counts")
    runs = unpack(counts) if isinstance(counts, str) else _numbers(counts, "counts")
    lengths = np.array(runs, dtype=np.int64)
    total = size[0] * size[1]
    if (lengths < 0).any() or (lengths > total).any() or lengths.sum() != total:
        raise ValueError(f"run lengths cover {int(lengths.sum())} of {total} pixels")
    values = np.arange(len(lengths)) % 2 == 1
    return np.repeat(values, lengths).reshape(size[::-1]).T


def unpack(text: str) -> list[int]:
    """Run lengths from COCO's packed text.

    Five bits a character, the lowest first, offset by 48; bit 5 says that more follow, bit 4 of the
    last one is the sign. From the fourth on, a number is the difference to the one before last.

    Raises:
        ValueError: a sign that can't occur, or an end in the middle of a number.

    >>> unpack("2512N2"), unpack("0:1")
    ([2, 5, 1, 7, -1, 9], [0, 10, 1])
    """
    counts: list[int] = []
    value = shift = 0
    for sign in text:
        bits = ord(sign) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError(f"packed run lengths can't hold {sign!r}")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError("packed run lengths end in the middle of a number")
    return counts


def _numbers(given: Any, what: str, count: int | None = None) -> list[float]:
    """A list of finite numbers."""
    if not isinstance(given, (list, tuple)) or not all(
        isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e9
        for value in given
    ):
        raise ValueError(f"{what} must be a list of numbers, given {str(given)[:40]}")
    if count is not None and len(given) != count:
        raise ValueError(f"{what} must be {count} numbers, given {len(given)}")
    return list(given)
