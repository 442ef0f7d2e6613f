"""A table of image paths with captions, classes, masks: CSV, TSV, JSON lines or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from captum_ib.benchmark.checks import nearest
from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.pictures import max_pixels, read_mask, read_picture
from captum_ib.benchmark.data.rows import CAPTIONS, Held, open_table
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel

_PARTS = ("caption", "label", "mask", "words")


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Samples from a table, for a model.

    Options:

    - ``image`` (default ``"image"``), ``caption``, ``label``, ``mask``, ``words``: the column that
      holds the path of the image; the caption; the class, by name or index; the path of the mask;
      the caption's words of content. The last four are taken from columns of these names where
      there are some; ``None`` leaves one out.
    - ``id``: the column of ids (default: ``row-0``, ``row-1``, …).
    - ``root``: where relative paths start (default: the table's folder). Conceptual Captions' file
      has no image paths: the picture of row 12 is ``12.jpg``, ``000000012.jpg`` or
      ``00000/000000012.jpg`` there, as img2dataset has it.

    Raises:
        FileNotFoundError: there is no such table.
        ValueError: it is none; a column is missing; an id is there twice.
        MissingExtraError: pyarrow is not installed.
    """
    path, options = Path(config.path or ""), config.options
    there, read_rows = open_table(path)
    columns = _columns(path, there, options)
    if loaded.kind == "dual" and "caption" not in columns:
        raise ValueError(
            f"{loaded.name} compares images with captions, and {path} has no column 'caption' (it "
            f"has {', '.join(there)}); name it with the option caption"
        )
    asked = list(dict.fromkeys(columns.values()))
    found = read_rows(asked)
    rows = Held(row if isinstance(row, str) else {k: row.get(k) for k in asked} for row in found)
    if not len(rows):
        raise ValueError(f"table {path} has no rows")
    root, most = Path(options.get("root") or path.parent), max_pixels(options.get("max_pixels"))

    def name_of(place: int) -> str:
        try:
            return text(rows[place].get(columns["id"]), "id")
        except ValueError:
            return f"row-{place}"

    def read(place: int, name: str) -> Sample:
        row = rows[place]
        cells = {part: row.get(column) for part, column in columns.items()}
        if "image" not in cells:
            cells["image"] = _downloaded(root, place)
        return _sample(name, cells, root, loaded, most)

    if "id" in columns:
        _check_ids(name_of, len(rows), path)
    name = name_of if "id" in columns else "row-{}".format
    return Dataset(len(rows), name, read, options.get("shuffle"))


def _sample(
    name: str, cells: Mapping[str, Any], root: Path, loaded: LoadedModel, most: int
) -> Sample:
    """A sample from what a row says of its parts."""
    path = text(cells["image"], "image")
    caption = text(cells["caption"], "caption") if "caption" in cells else None
    label = _label(cells["label"], loaded) if "label" in cells else None
    words = _words(cells["words"]) if "words" in cells else None
    mask = text(cells["mask"], "mask") if "mask" in cells else None
    image = read_picture(root / path, most)
    shape = None if mask is None else read_mask(root / mask, image.size, most)
    return Sample(name, image, label, caption, shape, words)


def _downloaded(root: Path, number: int) -> str:
    """The file of a row's picture: its number, with the zeros and folders of img2dataset or not."""
    stems = (str(number), f"{number:09d}", f"{number // 10_000:05d}/{number:09d}")
    files = [f"{stem}.{ending}" for stem in stems for ending in ("jpg", "jpeg", "png", "webp")]
    for file in files:
        if (root / file).is_file():
            return file
    raise ValueError(f"its picture is not below {root}: {', '.join(files[::4])} (or .png, .webp)")


def _label(cell: Any, loaded: LoadedModel) -> int | str:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)  # a column of numbers with gaps holds floats
    label = text(cell, "label")
    return loaded.class_index(label) if loaded.kind == "classifier" else label


def text(cell: Any, what: str) -> str:
    """A cell that holds text.

    Args:
        cell: of a row.
        what: it is, for the message.

    Raises:
        ValueError: it is empty, or no text.
    """
    if isinstance(cell, int) and not isinstance(cell, bool):
        cell = str(cell)
    if cell is None or cell == "":
        raise ValueError(f"the row has no {what}")
    if not isinstance(cell, str):
        raise ValueError(f"the {what} must be text, it is a {type(cell).__name__}")
    if not cell.strip():
        raise ValueError(f"the row has no {what}")
    return cell


def _words(cell: Any) -> tuple[str, ...]:
    """Words from a list, or from text with blanks between them; none is an answer too."""
    if cell is None or cell == "":
        return ()
    if isinstance(cell, (list, tuple)):
        return tuple(text(word, "words") for word in cell)
    return tuple(text(cell, "words").split())


def _columns(path: Path, there: Sequence[str], options: Mapping[str, Any]) -> dict[str, str]:
    """Which column holds which part."""
    image = None if list(there) == list(CAPTIONS) else "image"
    asked: dict[str, str | None] = {"image": options.get("image", image)}
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


def _check_ids(name_of: Callable[[int], str], count: int, path: Path) -> None:
    """Hold 8 bytes per id; only where two agree are the ids themselves compared."""
    hashes = np.fromiter((hash(name_of(row)) for row in range(count)), np.int64, count)
    order = np.argsort(hashes, kind="stable")
    for place in np.flatnonzero(hashes[order][1:] == hashes[order][:-1]):
        first, second = int(order[place]), int(order[place + 1])
        if name_of(first) == name_of(second):
            raise ValueError(
                f"{path}: rows {first} and {second} have the same id, {name_of(first)!r}; without "
                "the option id, rows are numbered"
            )
