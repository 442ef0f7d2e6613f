"""Images with boxes and masks as COCO writes them: one sample per image and category in it.

MS-CXR's file is one of these, with a phrase (``label_text``) for each box: a sample for a dual
encoder is then an image and a phrase. The file is read as a whole, what samples need held on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from captum_ib.benchmark.checks import nearest
from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.labels import LABEL, check_caption
from captum_ib.benchmark.data.pictures import max_pixels, read_picture
from captum_ib.benchmark.data.regions import region_mask
from captum_ib.benchmark.data.rows import Held
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel

Entry = dict[str, Any]

_KEYS = ("images", "annotations", "categories")


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Images with the regions of a category (or phrase) as mask, for a model.

    The path is the folder of the images, an id image and category, e.g. ``139/clock``. Options:

    - ``annotations``: the JSON file, as for COCO's object detection (required).
    - ``categories``: names; only these (default: all that the model has a class for, or all for a
      dual encoder).
    - ``shapes``: ``"mask"`` (default; the box where there is no mask) or ``"box"``.
    - ``caption``: for a dual encoder (default: the phrase of the annotation where there is one,
      else ``"a photo of a {label}"``).
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
    most, boxes = max_pixels(options.get("max_pixels")), options.get("shapes") == "box"
    asked, caption = options.get("categories"), options.get("caption")
    file = Path(options["annotations"])
    lists = _lists(file)
    names, labels = _categories(file, lists["categories"], asked), {}
    phrases = loaded.kind == "dual" and not caption
    if loaded.kind == "classifier":
        labels = _labels(names, loaded, bool(asked))
        names = {id: name for id, name in names.items() if id in labels}
    caption = caption or f"a photo of a {LABEL}"
    check_caption(caption, loaded)
    rows = Held(_samples(file, lists, names, phrases))

    def name_of(place: int) -> str:
        return "/".join(str(part) for part in rows[place]["name"] if part != "")

    def read(place: int, name: str) -> Sample:
        row = rows[place]
        (_, said, phrase), label = row["name"], labels.get(row["category"])
        image, mask = _read(root, row, most, boxes)
        if label is not None:
            return Sample(name, image, label, mask=mask)
        return Sample(name, image, said, phrase or caption.replace(LABEL, said), mask)

    return Dataset(len(rows), name_of, read, options.get("shuffle", 0))


def _read(root: Path, row: Entry, most: int, boxes: bool) -> tuple[Image, np.ndarray]:
    """The image of a sample, and the union of its regions."""
    if row["problem"]:
        raise ValueError(row["problem"])
    paths = [root / file for file in row["files"]]
    image = read_picture(next(filter(Path.exists, paths), paths[0]), most, upright=False)
    mask = np.zeros((image.height, image.width), dtype=bool)
    try:
        for region in row["regions"]:
            mask |= region_mask(region, mask.shape, boxes)
    except ValueError as error:
        raise ValueError(f"an annotation can't be read: {error}") from None
    if not mask.any():
        raise ValueError("the annotations cover no pixel of the image")
    return image, mask


def _lists(file: Path) -> dict[str, list[Entry]]:
    """What a file holds."""
    if not file.is_file():
        raise FileNotFoundError(f"annotations {file} are not there, or no file")
    try:
        content = json.loads(file.read_bytes(), object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is no JSON that can be used: {error}") from None
    lists = content if isinstance(content, dict) else {}
    if missing := [key for key in _KEYS if not isinstance(lists.get(key), list)]:
        raise ValueError(f"{file} has no list {' and no list '.join(missing)}")
    return lists


def _without_twins(pairs: list[tuple[str, Any]]) -> Entry:
    entry = dict(pairs)
    if len(entry) < len(pairs):
        keys = [key for key, _ in pairs]
        twin = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has the key {twin!r} twice in one object")
    return entry


def _categories(
    file: Path, entries: Sequence[Entry], asked: Sequence[str] | None
) -> dict[int, str]:
    """Names by id, of the categories that were asked for."""
    names: dict[int, str] = {}
    for place, entry in enumerate(entries):
        id, name = entry.get("id"), entry.get("name")
        if not isinstance(id, int) or not isinstance(name, str) or id in names:
            raise ValueError(f"{file}: categories[{place}] needs an id of its own and a name")
        if name in names.values():
            raise ValueError(f"{file}: two categories are called {name!r}")
        names[id] = name
    for name in asked or ():
        if name not in names.values():
            raise ValueError(f"{file} has no category {name!r}; {nearest(name, names.values())}")
    return {id: name for id, name in names.items() if not asked or name in asked}


def _labels(names: Mapping[int, str], loaded: LoadedModel, asked: bool) -> dict[int, int]:
    """The model's class for each category that it knows, which must be all that were asked for."""
    labels: dict[int, int] = {}
    for id, name in names.items():
        try:
            labels[id] = loaded.class_index(name)
        except ValueError as error:
            if asked:
                raise ValueError(f"category {name!r}: {error}") from None
    if not labels:
        raise ValueError(
            f"none of the categories ({_some(names)}) is a class of {loaded.name}; use a model "
            "with such classes, or a dual encoder"
        )
    return labels


def _some(names: Mapping[int, str]) -> str:
    return ", ".join(list(names.values())[:5]) + ", ..."


def _samples(
    file: Path, lists: Mapping[str, list[Entry]], names: Mapping[int, str], phrases: bool
) -> Iterator[Entry]:
    """Annotations by image, category and phrase, in this order."""
    images: dict[int, Entry] = {}
    for place, image in enumerate(lists["images"]):
        id = _whole(file, "images", place, image, "id")
        if id in images:
            raise ValueError(f"{file}: two images have the id {id}")
        images[id] = image
    groups: dict[tuple[int, int, str], list[Entry]] = {}
    for place, entry in enumerate(lists["annotations"]):
        category = _whole(file, "annotations", place, entry, "category_id")
        if category in names:
            id, phrase = _whole(file, "annotations", place, entry, "image_id"), ""
            if phrases and isinstance(entry.get("label_text"), str):
                phrase = entry["label_text"].strip()
            region = {key: entry.get(key) for key in ("segmentation", "bbox")}
            groups.setdefault((id, category, phrase), []).append(region)
    if not groups:
        raise ValueError(f"{file} has no annotations of {_some(names)}")
    for (id, category, phrase), regions in sorted(groups.items(), key=lambda item: item[0]):
        record, problem = images.get(id, {}), ""
        files = [record.get(key) for key in ("file_name", "path")]  # MS-CXR's folders: path
        files = [name for name in files if isinstance(name, str) and name]
        if not files:
            problem = f"image {id} has no file_name"
            if id not in images:
                problem = f"the annotations name image {id}, which is not among the images"
        name = (id, names[category], phrase)
        shared = {"name": name, "category": category, "files": files, "problem": problem}
        yield {**shared, "regions": regions}


def _whole(file: Path, key: str, place: int, entry: Any, name: str) -> int:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{file}: {key}[{place}] needs {name}, a whole number; it is {value!r}")
    return value
