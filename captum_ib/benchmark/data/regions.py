"""Regions of an image as COCO writes them (boxes, polygons, run lengths), drawn by pycocotools.

Checked here is what it takes without a word: short run lengths leave the rest of its mask whatever
memory held before, and four numbers for a polygon are a box.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from captum_ib.extras import need

Size = tuple[int, int]
"""(height, width) of an image."""


def region_mask(annotation: Mapping[str, Any], size: Size, box: bool = False) -> np.ndarray:
    """``(H, W)`` bool: the pixels of an annotation's ``segmentation``, or of its ``bbox``.

    Args:
        annotation: as in COCO's files.
        size: of the image.
        box: take the box even where there is a mask.

    Raises:
        ValueError: it is no such region, or one of an image of another size.
        MissingExtraError: pycocotools is not installed.

    >>> region_mask({"bbox": [1, 0, 2, 1]}, (2, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    coco = need("pycocotools.mask", "reading COCO's regions")
    shape = annotation.get("segmentation")
    if shape and not box:
        if isinstance(shape, dict):
            return _run_lengths(coco, shape, size)
        shapes = [_numbers(polygon, "a polygon") for polygon in _list(shape, "a segmentation")]
        for polygon in shapes:
            if len(polygon) < 6 or len(polygon) % 2:
                given = f"given {len(polygon)}"
                raise ValueError(f"a polygon needs x and y of 3 corners or more, {given}")
    elif annotation.get("bbox") is not None:
        shapes = np.array([_numbers(annotation["bbox"], "a box")], dtype=np.float64)
        if shapes.shape[1] != 4:
            raise ValueError(f"a box must be 4 numbers, given {shapes.shape[1]}")
    else:
        raise ValueError("it has neither a segmentation nor a bbox")
    return _decode(coco, coco.merge(coco.frPyObjects(shapes, *size)))


def _decode(coco: Any, code: Mapping[str, Any]) -> np.ndarray:
    with warnings.catch_warnings():  # pycocotools meets numpy 2 with an old signature
        warnings.filterwarnings("ignore", "__array__", DeprecationWarning)
        return coco.decode(code).astype(bool)


def _run_lengths(coco: Any, code: Mapping[str, Any], size: Size) -> np.ndarray:
    """Down the columns: plain ``counts``, or COCO's packed text."""
    if code.get("size") != list(size):
        raise ValueError(f"run lengths are for size {code.get('size')}, the image has {list(size)}")
    counts, total = code.get("counts"), size[0] * size[1]
    if isinstance(counts, str):
        mask = _decode(coco, code)
        if coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"] != counts.encode():
            raise ValueError("packed run lengths do not cover the image")
        return mask
    lengths = [int(length) for length in _numbers(counts, "counts")]
    if sum(lengths) != total or min(lengths) < 0:
        raise ValueError(f"run lengths cover {sum(lengths)} of {total} pixels")
    return _decode(coco, coco.frPyObjects({**code, "counts": lengths}, *size))


def _numbers(given: Any, what: str) -> list[float]:
    """A list of numbers that an image's coordinates can be."""
    for value in _list(given, what):
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) < 1e8:
            raise ValueError(f"{what} must be a list of numbers, given {str(given)[:40]}")
    return given


def _list(given: Any, what: str) -> list[Any]:
    if not isinstance(given, list):
        raise ValueError(f"{what} must be a list of numbers, given {str(given)[:40]}")
    return given
