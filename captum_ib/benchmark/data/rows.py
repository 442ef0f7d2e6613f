"""Rows of a table by their number: CSV, JSON lines or Parquet, as csv, json and pyarrow read them.

``datasets`` reads the same formats, but no table with faults: one bad row ends its readers of CSV
and JSON, and a label ``007`` becomes 7. Here a fault is a reason to
skip one sample, so the parsers are used without it.
"""

from __future__ import annotations

import csv
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from captum_ib.extras import need

Row = dict[str, Any] | str
"""Cells by column, or what is wrong with the row."""

Table = tuple[list[str], Callable[[Sequence[str]], Iterable[Row]]]
"""The columns' names; and the rows, with at least the columns that are asked for."""

CAPTIONS = ("caption", "url")
"""Columns of Conceptual Captions' file."""

_CAPTIONED = re.compile(r"[^\t]+\thttps?://[^\t]+\s*")
_LONGEST = 2**20  # bytes of a line


class Held:
    """Rows in SQLite's own temporary file (``SQLITE_TMPDIR``, ``TMPDIR``), few in memory at a time.

    The file has no name, and so goes with the process, however that ends.

    Args:
        rows: held as JSON; one that holds what is no UTF-8 is held as what is wrong with it.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self._file = sqlite3.connect("", check_same_thread=False)
        self._file.execute("CREATE TABLE held (row TEXT)")
        texts = ((_text(row),) for row in rows)
        self._length = self._file.executemany("INSERT INTO held VALUES (?)", texts).rowcount
        self._length = max(0, self._length)  # of no rows it is -1

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> dict[str, Any]:
        asked = self._file.execute("SELECT row FROM held WHERE rowid = ?", (number + 1,))
        row = json.loads(asked.fetchone()[0])
        if isinstance(row, str):
            raise ValueError(row)
        return row


def _text(row: Row) -> str:
    text = json.dumps(row, default=str, ensure_ascii=False)
    problem = _not_utf8(text)
    return json.dumps(f"the row is {problem}") if problem else text


def _not_utf8(text: str) -> str | None:
    """Says so where a text holds surrogates, as which bytes stand that are no UTF-8."""
    found = re.search("[\ud800-\udfff]", text)
    byte = ord(found[0]) - 0xDC00 if found else 0
    told = f"byte {byte:#04x}" if 0x80 <= byte <= 0xFF else "a lone surrogate"
    return f"not UTF-8: {told}" if found else None


def open_table(path: Path) -> Table:
    """A table, by the ending of its name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: an unknown ending, or a file that is no such table.
        MissingExtraError: Parquet without pyarrow.
    """
    if not path.is_file():
        raise FileNotFoundError(f"table {path} is not there, or no file")
    kinds = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".parquet": _parquet}
    kind = kinds.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"table {path} must end in one of {', '.join(kinds)}")
    return kind(path)


def _lines(path: Path) -> Iterator[str]:
    """Lines of a file, with surrogates for what is no UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            if len(line) == _LONGEST:
                raise ValueError(f"{path}:{number}: the line is longer than 1 MiB: it is no table")
            yield line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape")


def _tsv(path: Path) -> Table:
    """Tab-separated values, or Conceptual Captions' lines of caption and URL without a header."""
    if not _CAPTIONED.fullmatch(next(_lines(path), "")):
        return _csv(path, "\t")

    def row(line: str) -> Row:
        cells = line.rstrip("\r\n").split("\t")
        return dict(zip(CAPTIONS, cells, strict=True)) if len(cells) == 2 else "no caption and URL"

    return list(CAPTIONS), lambda _: map(row, _lines(path))


def _csv(path: Path, separator: str = ",") -> Table:
    """Separated values with a header; a quoted cell may go over several lines."""
    lines = _cells(path, separator)
    header = next(lines, None)
    if header is None:
        raise ValueError(f"table {path} is empty")
    problem = header if isinstance(header, str) else _not_utf8("".join(header))
    if isinstance(header, str) or problem:
        raise ValueError(f"{path}: the header can't be read: {problem}")
    columns = [name.strip() for name in header]
    if len(set(columns)) < len(columns):
        raise ValueError(f"{path}: columns {', '.join(columns)} are not all different")

    def row(cells: list[str] | str) -> Row:
        if isinstance(cells, str):
            return f"the row can't be read: {cells}"
        if len(cells) != len(columns):
            return f"the row has {len(cells)} cells for {len(columns)} columns"
        return dict(zip(columns, cells, strict=True))

    return columns, lambda _: map(row, lines)


def _cells(path: Path, separator: str) -> Iterator[list[str] | str]:
    """The cells of each row that is not blank, or what is wrong with it."""
    reader = csv.reader(_lines(path), delimiter=separator, strict=True)
    while True:
        first = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            told, several = str(error), reader.line_num > first
            if "unexpected end" in told or (several and "field limit" in told):
                problem = 'a quote (") opens here and is never closed'
                raise ValueError(f"{path}:{first}: {problem}") from None
            yield told
            continue
        if cells is None:
            return
        if len(cells) > 1 or "".join(cells).strip():
            yield cells


def _jsonl(path: Path) -> Table:
    """One JSON object per line; the first row's keys stand for all."""
    rows = (_object(line) for line in _lines(path) if line.strip())
    first = next(rows, None)
    if first is None:
        raise ValueError(f"table {path} is empty")
    if isinstance(first, str):
        raise ValueError(f"{path}: the first row can't be read: {first}")
    return list(first), lambda _: chain([first], rows)


def _object(line: str) -> Row:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"the row is no JSON: {error}"
    if not isinstance(values, dict):
        return f"the row must be a JSON object, it is a {type(values).__name__}"
    return values


def _parquet(path: Path) -> Table:
    """A Parquet file; of one row group, the columns asked for are in memory at a time."""
    parquet = need("pyarrow.parquet", "reading Parquet")
    try:
        file = parquet.ParquetFile(path)
    except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
        raise ValueError(f"table {path} can't be read: {error}") from None

    def rows(columns: Sequence[str]) -> Iterator[Row]:
        for group in range(file.num_row_groups):
            try:
                table = file.read_row_group(group, list(columns), use_threads=False)
            except (ValueError, OSError) as error:
                count = file.metadata.row_group(group).num_rows
                yield from repeat(f"row group {group} can't be read: {error}", count)
                continue
            for batch in table.to_batches(max_chunksize=1000):
                try:
                    yield from batch.to_pylist()
                except UnicodeDecodeError:  # that text is UTF-8, the file only claims
                    yield from (_row(batch.slice(row, 1)) for row in range(len(batch)))

    return list(file.schema_arrow.names), rows


def _row(batch: Any) -> Row:
    """The only row of a batch."""
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return f"the row is not UTF-8: byte {error.object[error.start]:#04x}"
