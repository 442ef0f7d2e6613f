"""Rows of a table by their number: CSV, JSON lines or Parquet, as csv, json and pyarrow read them.

``datasets`` reads the same formats, but no table with faults: one bad row ends its readers of CSV
and JSON, and a label ``007`` becomes 7. Here a fault is a reason to
skip one sample, so the parsers are used without it.
"""

from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
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
_BATCH = 100  # rows


class Held:
    """Rows in an Arrow file of the temporary folder (``TMPDIR``), a hundred in memory at a time.

    The file loses its name at once, and so goes with the process, however that ends.

    Args:
        rows: held as JSON; bytes as text, in which what is no UTF-8 stands as surrogates.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        arrow = need("pyarrow", "reading tables")
        texts = (json.dumps(row, default=_plain).encode() for row in rows)
        schema = arrow.schema([("row", arrow.large_binary())])
        self._length, self._batch = 0, (-1, ())
        with tempfile.TemporaryDirectory(prefix="captum_ib-", ignore_cleanup_errors=True) as folder:
            path = str(Path(folder, "rows.arrow"))
            with arrow.ipc.new_file(path, schema) as file:
                while some := list(islice(texts, _BATCH)):
                    file.write(arrow.record_batch([arrow.array(some, "large_binary")], schema))
                    self._length += len(some)
            self._file = arrow.ipc.open_file(arrow.OSFile(path))

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, number: int) -> dict[str, Any]:
        at, place = divmod(number, _BATCH)
        if self._batch[0] != at:
            self._batch = at, self._file.get_batch(at).column(0)
        row = json.loads(self._batch[1][place].as_py())
        if isinstance(row, str):
            raise ValueError(row)
        return row


def _plain(cell: Any) -> str:
    """What JSON has no word for."""
    return cell.decode("utf-8", "surrogateescape") if isinstance(cell, bytes) else str(cell)


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


def _lines(path: Path, first: str = "surrogateescape") -> Iterator[str]:
    """Lines of a file; ``first`` says what happens where the first one is no UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(_LONGEST), b""), start=1):
            if len(line) == _LONGEST:
                raise ValueError(f"{path}:{number}: the line is longer than 1 MiB: it is no table")
            if number == 1:
                yield line.decode("utf-8-sig", first)
            else:
                yield line.decode("utf-8", "surrogateescape")


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
    try:
        header = next(lines, None)
    except UnicodeDecodeError as error:
        header = str(error)
    if header is None:
        raise ValueError(f"table {path} is empty")
    if isinstance(header, str):
        raise ValueError(f"{path}: the header can't be read: {header}")
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
    reader = csv.reader(_lines(path, "strict"), delimiter=separator, strict=True)
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
            for batch in _as_bytes(table).to_batches(max_chunksize=1000):
                yield from batch.to_pylist()

    return list(file.schema_arrow.names), rows


def _as_bytes(table: Any) -> Any:
    """A pyarrow table with its text as bytes: that these are UTF-8, the file only claims."""
    arrow = need("pyarrow", "reading Parquet")
    columns = []
    for column in table.columns:
        if arrow.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        text = arrow.types.is_string(column.type) or arrow.types.is_large_string(column.type)
        columns.append(column.cast(arrow.large_binary()) if text else column)
    return arrow.table(columns, table.column_names)
