"""Find the objects in the lists of a large JSON file without reading it as a whole.

A file of COCO annotations has hundreds of megabytes in one object. What is held here is where each
entry of its lists starts and ends; an entry is read when it is asked for.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from collections.abc import Iterable
from pathlib import Path
from typing import Any

# What nests, and strings as a whole, so that brackets in them do not count.
_SIGNS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_COLON = re.compile(rb"[ \t\r\n]*:")


_HELD = 2**26  # bytes of the file that may stay in memory at a time


class _File:
    """The bytes of a file, which the process gives back when it has seen enough of them."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self.bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._seen = 0

    def seen(self, count: int) -> None:
        """Note that so many bytes more were looked at."""
        self._seen += count
        if self._seen > _HELD and hasattr(mmap, "MADV_DONTNEED"):
            self.bytes.madvise(mmap.MADV_DONTNEED)
            self._seen = 0


class Spans:
    """The objects in one list of a JSON file, read one by one.

    Args:
        file: that holds them.
    """

    def __init__(self, file: _File) -> None:
        self._file = file
        self._starts, self._ends = array("q"), array("q")

    def add(self, start: int, end: int) -> None:
        """Note where an object stands."""
        self._starts.append(start)
        self._ends.append(end)

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, index: int) -> Any:
        """An object.

        Raises:
            ValueError: it is no JSON, or no UTF-8.
        """
        start, end = self._starts[index], self._ends[index]
        self._file.seen(max(end - start, 2**16))  # pages come in sixteens
        return json.loads(self._file.bytes[start:end].decode("utf-8"))


def find_lists(path: Path, keys: Iterable[str]) -> dict[str, Spans]:
    """The lists of objects under some keys of the object that a file holds.

    Args:
        path: the file.
        keys: of the outermost object.

    Returns:
        The lists that are there, by key.

    Raises:
        ValueError: the file is empty, is no object, ends too early, or has a key twice.
    """
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty")
    file = _File(path)
    wanted = {json.dumps(key).encode(): key for key in keys}
    lists: dict[str, Spans] = {}
    stack = bytearray()
    key, current, start, before = None, None, 0, 0
    for found in _SIGNS.finditer(file.bytes):
        sign = found[0]
        if sign[:1] == b'"':
            if len(stack) == 1 and sign in wanted and _COLON.match(file.bytes, found.end()):
                key = wanted[sign]
        elif sign in b"[{":
            stack += sign
            if stack == b"{[":
                current = None if key is None else _new(lists, key, file, path)
            elif stack == b"{[{":
                start = found.start()
        else:
            opening = stack.pop() if stack else 0
            if bytes([opening]) + sign not in (b"[]", b"{}"):
                raise ValueError(f"{path} is no JSON: a wrong bracket at byte {found.start()}")
            if stack == b"{[" and sign == b"}" and current is not None:
                current.add(start, found.end())
                file.seen(found.end() - before)
                before = found.end()
            elif stack == b"{":
                key, current = None, None
    if stack:
        raise ValueError(f"{path} ends too early: {len(stack)} brackets are open")
    return lists


def _new(lists: dict[str, Spans], key: str, file: _File, path: Path) -> Spans:
    if key in lists:
        raise ValueError(f"{path} has the key {key!r} twice")
    lists[key] = Spans(file)
    return lists[key]
