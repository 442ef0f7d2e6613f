"""Images with boxes and masks as COCO writes them: one sample per image and category in it."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from captum_ib.benchmark.checks import nearest
from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.json_spans import Spans, find_lists
from captum_ib.benchmark.data.order import ordered
from captum_ib.benchmark.data.pictures import max_pixels, read_picture
from captum_ib.benchmark.data.regions import Size, box_mask, polygon_mask, run_length_mask
from captum_ib.benchmark.data.samples import Dataset, Sample, UnreadableSampleError
from captum_ib.benchmark.data.templates import LABEL, check_template, fill_in
from captum_ib.loading.load import LoadedModel

_KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class Index:
    """Which annotations belong together; numbers only.

    Attributes:
        images: entries of the list of images.
        annotations: entries of the list of annotations.
        image_at: place in ``images`` by the image's id.
        order: ``(A,)`` annotations, sorted by image and category.
        firsts: ``(N + 1,)`` where in ``order`` each sample starts.
        image_ids: ``(N,)`` per sample.
        category_ids: ``(N,)`` per sample.
    """

    images: Spans
    annotations: Spans
    image_at: Mapping[int, int]
    order: np.ndarray
    firsts: np.ndarray
    image_ids: np.ndarray
    category_ids: np.ndarray


class CocoData:
    """Samples from COCO annotations; the mask is the union of a category's regions in an image.

    Args:
        root: folder of the images.
        index: which annotations make a sample.
        names: of the categories, by id.
        labels: the model's classes, by category id; ``None`` for a dual encoder.
        caption: text with ``{label}`` in it.
        boxes: take boxes even where there are masks.
        most: pixels per image.
    """

    def __init__(
        self,
        root: Path,
        index: Index,
        names: Mapping[int, str],
        labels: Mapping[int, int] | None,
        caption: str,
        boxes: bool,
        most: int,
    ) -> None:
        self.root, self.index, self.names, self.labels = root, index, names, labels
        self.caption, self.boxes, self.most = caption, boxes, most

    def __len__(self) -> int:
        return len(self.index.image_ids)

    def id(self, index: int) -> str:
        """Image and category, e.g. ``139/clock``."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return f"{self.index.image_ids[index]}/{self.names[int(self.index.category_ids[index])]}"

    def read(self, index: int) -> Sample:
        """Read an image and the regions of one category in it."""
        name, category = self.id(index), int(self.index.category_ids[index])
        try:
            record = self._image(int(self.index.image_ids[index]))
        except ValueError as error:
            raise UnreadableSampleError(name, str(error)) from None
        image = read_picture(name, self.root / record, self.most, upright=False)
        first, last = self.index.firsts[index : index + 2]
        size = image.height, image.width
        mask = np.zeros(size, dtype=bool)
        try:
            for place in self.index.order[first:last]:
                mask |= self._region(self.index.annotations.read(int(place)), size)
        except ValueError as error:
            raise UnreadableSampleError(name, f"an annotation can't be read: {error}") from None
        if not mask.any():
            raise UnreadableSampleError(name, "the annotations cover no pixel of the image")
        said = self.names[category]
        if self.labels is None:
            return Sample(name, image, said, fill_in(self.caption, said), mask)
        return Sample(name, image, self.labels[category], None, mask)

    def _image(self, id: int) -> str:
        place = self.index.image_at.get(id)
        if place is None:
            raise ValueError(f"the annotations name image {id}, which is not among the images")
        file = self.index.images.read(place).get("file_name")
        if not isinstance(file, str) or not file:
            raise ValueError(f"image {id} has no file_name")
        return file

    def _region(self, annotation: Mapping[str, Any], size: Size) -> np.ndarray:
        shape = annotation.get("segmentation")
        if shape and not self.boxes:
            return (
                run_length_mask(shape, size)
                if isinstance(shape, dict)
                else polygon_mask(shape, size)
            )
        if annotation.get("bbox") is None:
            raise ValueError("it has neither a segmentation nor a bbox")
        return box_mask(annotation["bbox"], size)


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Images with boxes or masks, for a model.

    The path is the folder of the images. Options:

    - ``annotations``: the JSON file, as for COCO's object detection (required).
    - ``categories``: names; only these (default: all that the model has a class for, or all for a
      dual encoder).
    - ``shapes``: ``"mask"`` (default; the box where there is no mask) or ``"box"``.
    - ``caption``: for a dual encoder (default ``"a photo of a {label}"``).
    - ``shuffle``: seed of the order (default 0); ``None``: by id of the image.
    - ``max_pixels``: larger images are refused.

    Raises:
        FileNotFoundError: there is no such folder or file.
        ValueError: the file is no such JSON; a category that is not there or means nothing to the
            model; no annotations.
    """
    root, options = Path(config.path or ""), config.options
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder of images")
    if "annotations" not in options:
        raise ValueError("data of kind 'coco' needs the option annotations, the JSON file")
    file = Path(options["annotations"])
    if not file.is_file():
        raise FileNotFoundError(f"annotations {file} are not there, or no file")
    lists = find_lists(file, _KEYS)
    if missing := [key for key in _KEYS if key not in lists]:
        raise ValueError(f"{file} has no list {' and no list '.join(missing)}")
    names = _categories(file, lists["categories"])
    chosen = _chosen(file, names, options.get("categories"))
    labels = None
    if loaded.kind == "classifier":
        labels = _labels(chosen, loaded, asked=bool(options.get("categories")))
        chosen = {id: name for id, name in chosen.items() if id in labels}
    caption = options.get("caption") or f"a photo of a {LABEL}"
    check_template(caption, loaded.name)
    data = CocoData(
        root,
        _index(file, lists, chosen),
        chosen,
        labels,
        caption,
        options.get("shapes") == "box",
        max_pixels(options.get("max_pixels")),
    )
    return ordered(data, options.get("shuffle", 0))


def _categories(file: Path, entries: Spans) -> dict[int, str]:
    names: dict[int, str] = {}
    for place in range(len(entries)):
        entry = entries.read(place)
        id, name = entry.get("id"), entry.get("name")
        if not isinstance(id, int) or not isinstance(name, str) or id in names:
            raise ValueError(f"{file}: categories[{place}] needs an id of its own and a name")
        if name in names.values():
            raise ValueError(f"{file}: two categories are called {name!r}")
        names[id] = name
    return names


def _chosen(file: Path, names: Mapping[int, str], asked: Sequence[str] | None) -> dict[int, str]:
    for name in asked or ():
        if name not in names.values():
            raise ValueError(f"{file} has no category {name!r}; {nearest(name, names.values())}")
    return {id: name for id, name in names.items() if not asked or name in asked}


def _labels(names: Mapping[int, str], loaded: LoadedModel, asked: bool) -> dict[int, int]:
    """The model's class for each category that it knows.

    Raises:
        ValueError: it does not know one that was asked for, or none at all.
    """
    labels: dict[int, int] = {}
    for id, name in names.items():
        try:
            labels[id] = loaded.class_index(name)
        except ValueError as error:
            if asked:
                raise ValueError(f"category {name!r}: {error}") from None
    if not labels:
        raise ValueError(
            f"none of the categories ({', '.join(list(names.values())[:5])}, ...) is a class of "
            f"{loaded.name}; use a model with such classes, or a dual encoder"
        )
    return labels


def _index(file: Path, lists: Mapping[str, Spans], names: Mapping[int, str]) -> Index:
    """Sort the annotations of some categories by image and category."""
    images, annotations = lists["images"], lists["annotations"]
    image_at = {}
    for place in range(len(images)):
        id = _whole(file, "images", place, images.read(place), "id")
        if id in image_at:
            raise ValueError(f"{file}: two images have the id {id}")
        image_at[id] = place
    columns = array("q"), array("q"), array("q")
    for place in range(len(annotations)):
        entry = annotations.read(place)
        category = _whole(file, "annotations", place, entry, "category_id")
        if category in names:
            image = _whole(file, "annotations", place, entry, "image_id")
            for column, value in zip(columns, (image, category, place), strict=True):
                column.append(value)
    image_ids, category_ids, places = (np.array(column, dtype=np.int64) for column in columns)
    if not len(places):
        raise ValueError(f"{file} has no annotations of {', '.join(list(names.values())[:5])}")
    order = np.lexsort((places, category_ids, image_ids))
    image_ids, category_ids = image_ids[order], category_ids[order]
    new = (np.diff(image_ids) != 0) | (np.diff(category_ids) != 0)
    firsts = np.concatenate([[0], np.flatnonzero(new) + 1, [len(order)]])
    starts = firsts[:-1]
    return Index(
        images,
        annotations,
        image_at,
        places[order],
        firsts,
        image_ids[starts],
        category_ids[starts],
    )


def _whole(file: Path, key: str, place: int, entry: Mapping[str, Any], name: str) -> int:
    value = entry.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{file}: {key}[{place}] needs {name}, a whole number; it is {value!r}")
    return value
