"""A table of image paths with captions, classes, masks: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from captum_ib.benchmark.checks import nearest
from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.order import ordered
from captum_ib.benchmark.data.pictures import max_pixels, read_mask, read_picture
from captum_ib.benchmark.data.rows import ParquetRows, RowError, Rows, open_rows
from captum_ib.benchmark.data.samples import Dataset, Sample, UnreadableSampleError
from captum_ib.loading.load import LoadedModel

_PARTS = ("caption", "label", "mask", "words")


class TableData:
    """Samples from the rows of a table.

    Args:
        rows: the table.
        columns: for ``image``, ``caption``, ``label``, ``mask``, ``words`` and ``id`` the name of
            the column that holds it; a part without a column is not there.
        root: where relative paths start.
        loaded: the model; it says which class a label is.
        most: pixels per image.
    """

    def __init__(
        self,
        rows: Rows,
        columns: Mapping[str, str],
        root: Path,
        loaded: LoadedModel,
        most: int,
    ) -> None:
        self.rows, self.columns, self.root = rows, columns, root
        self.loaded, self.most = loaded, most

    def __len__(self) -> int:
        return len(self.rows)

    def id(self, index: int) -> str:
        """The row's id, or ``row-3`` for the row with number 3 where there is no column of ids."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        if "id" not in self.columns:
            return f"row-{index}"
        try:
            return text(self.rows.row(index).get(self.columns["id"]), "id")
        except RowError:
            return f"row-{index}"

    def read(self, index: int) -> Sample:
        """Read a row and its picture."""
        name = self.id(index)
        try:
            row = self.rows.row(index)
            cells = {part: row.get(column) for part, column in self.columns.items()}
            path = text(cells["image"], "image")
            caption = text(cells["caption"], "caption") if "caption" in cells else None
            label = self._label(cells["label"]) if "label" in cells else None
            words = _words(cells["words"]) if "words" in cells else None
            mask_path = text(cells["mask"], "mask") if "mask" in cells else None
        except (RowError, ValueError) as error:
            raise UnreadableSampleError(name, str(error)) from None
        image = read_picture(name, self.root / path, self.most)
        mask = None
        if mask_path is not None:
            mask = read_mask(name, self.root / mask_path, image.size, self.most)
        return Sample(name, image, label, caption, mask, words)

    def _label(self, cell: Any) -> int | str:
        if isinstance(cell, float) and cell.is_integer():
            cell = int(cell)  # a column of numbers with gaps holds floats
        label = text(cell, "label")
        return self.loaded.class_index(label) if self.loaded.kind == "classifier" else label


def text(cell: Any, what: str) -> str:
    """A cell that holds text.

    Args:
        cell: of a row.
        what: it is, for the message.

    Raises:
        RowError: it is empty, no text, or holds bytes that are no UTF-8.
    """
    if isinstance(cell, int) and not isinstance(cell, bool):
        cell = str(cell)
    if cell is None or cell == "":
        raise RowError(f"the row has no {what}")
    if not isinstance(cell, str):
        raise RowError(f"the {what} must be text, it is a {type(cell).__name__}")
    for place, sign in enumerate(cell):
        if "\ud800" <= sign <= "\udfff":
            byte = ord(sign) - 0xDC00
            told = f"byte {byte:#04x}" if 0x80 <= byte <= 0xFF else "a lone surrogate"
            raise RowError(f"the {what} is not UTF-8: {told} after {place} characters")
    if not cell.strip():
        raise RowError(f"the row has no {what}")
    return cell


def _words(cell: Any) -> tuple[str, ...]:
    """Words from a list, or from text with blanks between them; none is an answer too."""
    if cell is None or cell == "":
        return ()
    if isinstance(cell, (list, tuple)):
        return tuple(text(word, "words") for word in cell)
    return tuple(text(cell, "words").split())


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Samples from a table, for a model.

    Options:

    - ``image`` (default ``"image"``), ``caption``, ``label``, ``mask``, ``words``: the column that
      holds the path of the image; the caption; the class, by name or index; the path of the mask;
      the caption's words of content. The last four are taken from columns of these names where
      there are some; ``None`` leaves one out.
    - ``id``: the column of ids (default: ``row-0``, ``row-1``, …).
    - ``root``: where relative paths start (default: the table's folder).
    - ``shuffle``: seed of the order (default ``None``: the table's).
    - ``max_pixels``: larger images are refused.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it is none; a column is missing; an id is there twice.
        MissingExtraError: a Parquet file, and pyarrow is not installed.
    """
    path, options = Path(config.path or ""), config.options
    rows = open_rows(path)
    columns = _columns(path, rows.columns, options)
    if loaded.kind == "dual" and "caption" not in columns:
        raise ValueError(
            f"{loaded.name} compares images with captions, and {path} has no column 'caption' (it "
            f"has {', '.join(rows.columns)}); name it with the option caption"
        )
    if isinstance(rows, ParquetRows):
        rows.select(list(dict.fromkeys(columns.values())))
    root = Path(options.get("root") or path.parent)
    data = TableData(rows, columns, root, loaded, max_pixels(options.get("max_pixels")))
    if "id" in columns:
        _check_ids(data, path)
    try:
        return ordered(data, options.get("shuffle"))
    except ValueError:
        raise ValueError(f"table {path} has no rows") from None


def _columns(path: Path, there: Sequence[str], options: Mapping[str, Any]) -> dict[str, str]:
    """Which column holds which part."""
    asked: dict[str, str | None] = {"image": options.get("image", "image")}
    for part in _PARTS:
        asked[part] = options.get(part, part if part in there else None)
    asked["id"] = options.get("id")
    columns = {part: column for part, column in asked.items() if column is not None}
    for part, column in columns.items():
        if column not in there:
            hint = nearest(column, there)
            option = "" if part in options else f", or name another with the option {part}"
            raise ValueError(f"{path} has no column {column!r}; {hint}{option}")
    return columns


def _check_ids(data: TableData, path: Path) -> None:
    """Hold 8 bytes per id; only where two agree are the ids themselves compared."""
    digests = np.fromiter(
        (_digest(data.id(index)) for index in range(len(data))), dtype=np.uint64, count=len(data)
    )
    order = np.argsort(digests, kind="stable")
    same = np.flatnonzero(digests[order][1:] == digests[order][:-1])
    for place in same:
        first, second = sorted((int(order[place]), int(order[place + 1])))
        if data.id(first) == data.id(second):
            raise ValueError(
                f"{path}: rows {first} and {second} have the same id, {data.id(first)!r}; without "
                "the option id, rows are numbered"
            )


def _digest(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
