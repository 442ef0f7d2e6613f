"""Rows of a table by their number, from CSV, JSON lines or Parquet; offsets only are held.

Text comes with bytes that are no UTF-8 kept as surrogates (Python's ``surrogateescape``), so that
one broken caption spoils one sample; :func:`captum_ib.benchmark.data.table.text` finds them.
"""

from __future__ import annotations

import csv
import io
import json
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from captum_ib.extras import need

_LONGEST = 2**20  # bytes of a row


class RowError(ValueError):
    """A row can't be read."""


class Rows(Protocol):
    """A table.

    Attributes:
        columns: names, in order.
    """

    columns: Sequence[str]

    def __len__(self) -> int:
        """Number of rows, the header left out."""
        ...

    def row(self, number: int) -> dict[str, Any]:
        """One row.

        Raises:
            RowError: it can't be read; the message says why.
        """
        ...


def open_rows(path: Path) -> Rows:
    """The rows of a table, by the ending of its name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown ending, or a file that is no such table.
        MissingExtraError: Parquet without pyarrow.
    """
    if not path.is_file():
        raise FileNotFoundError(f"table {path} is not there, or no file")
    kinds = {".csv": CsvRows, ".tsv": CsvRows, ".jsonl": JsonRows, ".parquet": ParquetRows}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"table {path} must end in one of {', '.join(kinds)}")
    return kind(path)


def _lines(file: BinaryIO, path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number (from 1), offset and bytes of every line."""
    number = offset = 0
    while line := file.readline(_LONGEST):
        number += 1
        if len(line) == _LONGEST:
            raise ValueError(f"{path}:{number}: the line is longer than 1 MiB: that is no table")
        yield number, offset, line
        offset += len(line)


class _TextRows:
    """Rows of a text file, found by their offsets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._starts, self._ends = array("q"), array("q")

    def __len__(self) -> int:
        return len(self._starts)

    def _add(self, start: int, end: int) -> None:
        self._starts.append(start)
        self._ends.append(end)

    def _bytes(self, number: int) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self._starts[number])
            return file.read(self._ends[number] - self._starts[number])


class CsvRows(_TextRows):
    """Comma- or tab-separated values with a header; a quoted cell may go over several lines."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._separator = "\t" if path.suffix.lower() == ".tsv" else ","
        start, opened, header = 0, 0, None
        with path.open("rb") as file:
            for number, offset, line in _lines(file, path):
                if not opened:
                    start = offset
                if line.count(b'"') % 2:
                    opened = 0 if opened else number
                end = offset + len(line)
                if opened and end - start > _LONGEST:
                    break
                if opened or not (line.strip() or end - start > len(line)):
                    continue
                if header is None:
                    header = (start, end)
                else:
                    self._add(start, end)
        if opened:
            raise ValueError(f'{path}:{opened}: a quote (") opens here and is never closed')
        self.columns = self._header(header)

    def _header(self, span: tuple[int, int] | None) -> list[str]:
        if span is None:
            raise ValueError(f"table {self.path} is empty")
        with self.path.open("rb") as file:
            content = file.read(span[1])[span[0] :]
        try:
            columns = self._cells(content.decode("utf-8-sig"))
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{self.path}: the header can't be read: {error}") from None
        columns = [name.strip() for name in columns]
        if len(set(columns)) < len(columns):
            raise ValueError(f"{self.path}: columns {', '.join(columns)} are not all different")
        return columns

    def _cells(self, text: str) -> list[str]:
        return next(
            csv.reader(io.StringIO(text, newline=""), delimiter=self._separator, strict=True)
        )

    def row(self, number: int) -> dict[str, Any]:
        """One row; every cell is text."""
        try:
            cells = self._cells(self._bytes(number).decode("utf-8", "surrogateescape"))
        except csv.Error as error:
            raise RowError(f"the row can't be read: {error}") from None
        if len(cells) != len(self.columns):
            raise RowError(f"the row has {len(cells)} cells for {len(self.columns)} columns")
        return dict(zip(self.columns, cells, strict=True))


class JsonRows(_TextRows):
    """One JSON object per line; the first row's keys stand for all."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with path.open("rb") as file:
            for _, offset, line in _lines(file, path):
                if line.strip(b" \t\r\n\xef\xbb\xbf"):
                    self._add(offset, offset + len(line))
        if not len(self):
            raise ValueError(f"table {path} is empty")
        try:
            self.columns = list(self.row(0))
        except RowError as error:
            raise ValueError(f"{path}: the first row can't be read: {error}") from None

    def row(self, number: int) -> dict[str, Any]:
        """One row."""
        text = self._bytes(number).removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RowError(f"the row is no JSON: {error}") from None
        if not isinstance(values, dict):
            raise RowError(f"the row must be a JSON object, it is a {type(values).__name__}")
        return values


class ParquetRows:
    """A Parquet file; the columns asked for of one row group are held at a time.

    Attributes:
        columns: names, in order.
    """

    def __init__(self, path: Path) -> None:
        parquet = need("pyarrow.parquet", "reading Parquet")
        self._arrow = need("pyarrow", "reading Parquet")
        try:
            self._file = parquet.ParquetFile(path)
        except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
            raise ValueError(f"table {path} can't be read: {error}") from None
        groups = self._file.metadata.num_row_groups
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(groups)]
        *self._firsts, self._length = accumulate(sizes, initial=0)
        self.columns: list[str] = list(self._file.schema_arrow.names)
        self._selected = self.columns
        self._held: tuple[int, Any] = (-1, None)

    def select(self, columns: Sequence[str]) -> None:
        """Read these columns only from now on."""
        self._selected, self._held = list(columns), (-1, None)

    def __len__(self) -> int:
        return self._length

    def row(self, number: int) -> dict[str, Any]:
        """One row."""
        group = bisect_right(self._firsts, number) - 1
        if group != self._held[0]:
            try:
                table = self._file.read_row_group(group, self._selected, use_threads=False)
            except (ValueError, OSError) as error:
                raise RowError(f"row group {group} can't be read: {error}") from None
            self._held = (group, table)
        at = number - self._firsts[group]
        return {name: self._cell(self._held[1].column(name)[at]) for name in self._selected}

    def _cell(self, scalar: Any) -> Any:
        types = self._arrow.types
        if types.is_dictionary(scalar.type):
            scalar = scalar.value
        if types.is_string(scalar.type) or types.is_large_string(scalar.type):
            buffer = scalar.as_buffer()
            return (
                None if buffer is None else buffer.to_pybytes().decode("utf-8", "surrogateescape")
            )
        value = scalar.as_py()
        return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
