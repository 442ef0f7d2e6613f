"""TOML as plain values together with the line of every one of them.

The standard library reads TOML but does not say where values stand. :class:`_Scanner` walks over
a text that is known to be valid, so it only has to tell keys from values, and where values end.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from captum_ib.benchmark.checks import Where
from captum_ib.benchmark.marks import FormatError, Marked
from captum_ib.extras import need

_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)+")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PLAIN = re.compile(r"[^,\]}#\n]+")  # numbers, true, false, dates


def read(text: str) -> Marked:
    """Read a TOML document.

    Args:
        text: the document.

    Raises:
        FormatError: no TOML, or a key that is there twice.
        MissingExtraError: before Python 3.11, the package tomli is not installed.

    >>> read('a = 1\\n[[b]]\\nc = [1,\\n 2]').line(("b", 0, "c", 1))
    4
    """
    toml = need("tomllib" if sys.version_info >= (3, 11) else "tomli", "reading TOML")
    try:
        values = toml.loads(text)
    except toml.TOMLDecodeError as error:
        told = str(error)
        at = _LINE.search(told)
        line = None if at is None else int(at[1] or text.count("\n") + 1)
        raise FormatError(_LINE.sub("", told), line) from None
    except RecursionError:
        raise FormatError("values are nested too deeply") from None
    lines: dict[Where, int] = {}
    for where, line in _Scanner(text).document():
        lines.setdefault(where, line)
    return Marked(values, lines.get)


class _Scanner:
    """Walks over a valid document and yields the way to every value with its line."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def document(self) -> Iterator[tuple[Where, int]]:
        home: Where = ()
        entries: dict[Where, int] = {}  # how many [[tables]] there are so far
        while self._skip_space():
            line = self._line()
            if self.text.startswith("[[", self.at):
                keys = self._header(2)
                home = (*_resolve(keys[:-1], entries), keys[-1])
                entries[home] = entries.get(home, 0) + 1
                home = (*home, entries[home] - 1)
                yield from _all_ways(home, line)
            elif self.text[self.at] == "[":
                home = _resolve(self._header(1), entries)
                yield from _all_ways(home, line)
            else:
                yield from self._pair(home)

    def _skip_space(self) -> bool:
        """Whether anything is left behind blanks and comments."""
        space = _SPACE.match(self.text, self.at)
        self.at = space.end() if space else self.at
        return self.at < len(self.text)

    def _line(self) -> int:
        return self.text.count("\n", 0, self.at) + 1

    def _header(self, brackets: int) -> list[str]:
        self.at += brackets
        keys = self._keys()
        self.at += brackets
        return keys

    def _keys(self) -> list[str]:
        """A key, which is several where there are dots; stops behind them."""
        keys: list[str] = []
        while True:
            self._skip_space()
            quoted = _STRING.match(self.text, self.at)
            found = quoted or _BARE.match(self.text, self.at)
            assert found is not None  # the document is valid
            keys.append(found[0][1:-1] if quoted else found[0])
            self.at = found.end()
            self._skip_space()
            if not self.text.startswith(".", self.at):
                return keys
            self.at += 1

    def _pair(self, home: Where) -> Iterator[tuple[Where, int]]:
        line = self._line()
        keys = self._keys()
        self.at += 1  # the sign =
        yield from _all_ways((*home, *keys), line)
        yield from self._value((*home, *keys))

    def _value(self, where: Where) -> Iterator[tuple[Where, int]]:
        self._skip_space()
        opening = self.text[self.at]
        if opening == "[":
            yield from self._list(where)
        elif opening == "{":
            yield from self._inline_table(where)
        else:
            found = _STRING.match(self.text, self.at) or _PLAIN.match(self.text, self.at)
            assert found is not None  # the document is valid
            self.at = found.end()

    def _list(self, where: Where) -> Iterator[tuple[Where, int]]:
        index = 0
        while self._inside("]"):
            here = (*where, index)
            yield here, self._line()
            yield from self._value(here)
            index += 1

    def _inline_table(self, where: Where) -> Iterator[tuple[Where, int]]:
        while self._inside("}"):
            yield from self._pair(where)

    def _inside(self, closing: str) -> bool:
        """Step over the opening or the comma; whether an entry follows, not the end."""
        self._skip_space()
        if self.text[self.at] != closing:
            self.at += 1  # the opening, or a comma
            self._skip_space()
        if self.text[self.at] == closing:
            self.at += 1
            return False
        return True


def _all_ways(where: Where, line: int) -> Iterator[tuple[Where, int]]:
    """A way and those that lead to it: a header or a dotted key may be the first to name them."""
    for end in range(1, len(where) + 1):
        yield where[:end], line


def _resolve(keys: list[str], entries: dict[Where, int]) -> Where:
    """The way that a header names: through a list of tables it leads to the last one."""
    where: Where = ()
    for key in keys:
        where = (*where, key)
        if where in entries:
            where = (*where, entries[where] - 1)
    return where
