"""Objects of an image as PASCAL VOC's XML lists them, and their boxes as masks.

The parser builds no tree, knows no entities but XML's five, and fetches nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

import numpy as np

LARGEST = 2**20
"""Bytes of a file; more are refused unread."""
_DEEPEST = 16
_EDGES = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class Listed:
    """One object.

    Attributes:
        names: of its class (VOC), or of the chains of phrases that mean it (Flickr30k).
        edges: xmin, ymin, xmax, ymax in pixels, counted from 1, all inside; empty: it has no box.
    """

    names: list[str] = field(default_factory=list)
    edges: dict[str, float] = field(default_factory=dict)


def listed_objects(path: Path) -> list[Listed]:
    """The objects of a file.

    Raises:
        ValueError: no file, a large one, no such XML, or one that declares a document type.
    """
    if not path.is_file():
        raise ValueError(f"annotation {path.name} is missing, or no file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"annotation {path.name} is larger than 1 MiB")
    reader = _Reader()
    try:
        reader.parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, ValueError, OSError) as error:
        raise ValueError(f"annotation {path.name} can't be read: {error}") from error
    return reader.found


class _Reader:
    """Handlers of one file."""

    def __init__(self) -> None:
        self.found: list[Listed] = []
        self._path: list[str] = []
        self._text = ""
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartDoctypeDeclHandler = self._refused
        self.parser.StartElementHandler = self._started
        self.parser.CharacterDataHandler = self._said
        self.parser.EndElementHandler = self._ended

    def _refused(self, *_: object) -> None:
        raise ValueError("it declares a document type")

    def _started(self, name: str, _: object) -> None:
        self._path.append(name)
        self._text = ""
        if len(self._path) > _DEEPEST:
            raise ValueError(f"its elements are nested more than {_DEEPEST} deep")
        if self._path[1:] == ["object"]:
            self.found.append(Listed())

    def _said(self, text: str) -> None:
        self._text += text

    def _ended(self, name: str) -> None:
        inside, text = self._path[1:], self._text.strip()
        self._path.pop()
        self._text = ""
        if inside == ["object", "name"]:
            self.found[-1].names.append(text)
        elif inside[:2] == ["object", "bndbox"] and len(inside) == 3 and name in _EDGES:
            try:
                self.found[-1].edges[name] = float(text)
            except ValueError:
                raise ValueError(f"{name} is no number: {text[:20]!r}") from None


def boxes_mask(found: Sequence[Listed], size: tuple[int, int]) -> np.ndarray:
    """``(H, W)`` bool: the union of the boxes.

    Args:
        found: objects; those without a box add nothing.
        size: (height, width) of the image.

    Raises:
        ValueError: a box that lacks an edge, lies outside or is turned round; or no box at all.

    >>> box = Listed(["dog"], {"xmin": 2, "ymin": 1, "xmax": 3, "ymax": 1})
    >>> boxes_mask([box], (2, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    mask = np.zeros(size, dtype=bool)
    for edges in (one.edges for one in found if one.edges):
        if len(edges) < len(_EDGES):
            raise ValueError(f"a box has only {', '.join(edges)}")
        left, top, right, bottom = (edges[name] for name in _EDGES)
        # Some of VOC's boxes are given in halves of pixels; and a NaN fails the comparison.
        if not (0.5 <= left <= right <= size[1] + 0.5 and 0.5 <= top <= bottom <= size[0] + 0.5):
            given = f"x {left:g} to {right:g}, y {top:g} to {bottom:g}"
            raise ValueError(f"a box lies outside the image of {size[1]} x {size[0]}: {given}")
        rows = slice(max(0, round(top) - 1), round(bottom))
        mask[rows, max(0, round(left) - 1) : round(right)] = True
    if not mask.any():
        raise ValueError("it has no box")
    return mask
