"""Images with boxes and masks as COCO writes them: one sample per image and category in it.

MS-CXR's file is one of these, with a phrase (``label_text``) for each box, and so are MDETR's of
Flickr30k and of referring expressions on COCO, where a box belongs to part of the image's caption
(``tokens_positive``): a sample for a dual encoder is then an image and a phrase. The file is read
as a whole, what samples need held on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from captum_ib.benchmark.checks import repeated
from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.labels import LABEL, category_indices, check_caption, first_names
from captum_ib.benchmark.data.pictures import max_pixels, read_picture
from captum_ib.benchmark.data.regions import region_mask
from captum_ib.benchmark.data.rows import Held
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel

Entry = dict[str, Any]

# What a file must hold; its other keys don't count, and what is wrong with a region or the name of
# an image is the matter of a single sample.
_LISTS = {
    "images": {"id": int},
    "annotations": {"image_id": int, "category_id": int},
    "categories": {"id": int, "name": str},
}


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Images with the regions of a category (or phrase) as mask, for a model.

    The path is the folder of the images, an id image and category, e.g. ``139/clock``. Options:

    - ``annotations``: the JSON file, as for COCO's object detection (required).
    - ``categories``: names; only these (default: all that the model has a class for, or all for a
      dual encoder).
    - ``shapes``: ``"mask"`` (default; the box where there is no mask) or ``"box"``.
    - ``caption``: for a dual encoder (default: the phrase of the annotation where there is one,
      else ``"a photo of a {label}"``).

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
    file, caption = Path(options["annotations"]), options.get("caption")
    phrases = loaded.kind == "dual" and not caption
    caption = caption or f"a photo of a {LABEL}"
    check_caption(caption, loaded)
    lists = _lists(file)
    names = {entry["id"]: entry["name"] for entry in lists["categories"]}
    labels = category_indices(str(file), names, options.get("categories") or (), loaded)
    rows = Held(_samples(file, lists, {id: names[id] for id in labels}, phrases))

    def name_of(number: int) -> str:
        return "/".join(str(part) for part in rows[number]["name"] if part != "")

    def read(number: int, name: str) -> Sample:
        row = rows[number]
        (_, said, phrase), label = row["name"], labels[row["category"]]
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
    for key, fields in _LISTS.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise ValueError(f"{file} has no list {key}")
        for field, kind in fields.items():
            values = [entry.get(field) if isinstance(entry, dict) else None for entry in entries]
            for number, value in enumerate(values):
                if type(value) is not kind:
                    wanted = f"needs {field} ({kind.__name__}), given {value!r}"
                    raise ValueError(f"{file}: {key}[{number}] {wanted}")
            if key != "annotations" and (twin := repeated(values)) is not None:
                raise ValueError(f"{file}: two {key} have the {field} {values[twin]!r}")
    return content


def _without_twins(pairs: list[tuple[str, Any]]) -> Entry:
    if (twin := repeated(key for key, _ in pairs)) is not None:
        raise ValueError(f"it has the key {pairs[twin][0]!r} twice in one object")
    return dict(pairs)


def _samples(
    file: Path, lists: Mapping[str, list[Entry]], names: Mapping[int, str], phrases: bool
) -> Iterator[Entry]:
    """Annotations by image, category and phrase, in this order."""
    images = {image["id"]: image for image in lists["images"]}
    groups: dict[tuple[int, int, str], list[Entry]] = {}
    for entry in lists["annotations"]:
        if entry["category_id"] in names:
            phrase = _phrase(entry, images.get(entry["image_id"], {})) if phrases else ""
            region = {key: entry.get(key) for key in ("segmentation", "bbox")}
            groups.setdefault((entry["image_id"], entry["category_id"], phrase), []).append(region)
    if not groups:
        raise ValueError(f"{file} has no annotations of {first_names(names)}")
    for (id, category, phrase), regions in sorted(groups.items(), key=lambda item: item[0]):
        given = [images.get(id, {}).get(key) for key in ("file_name", "path")]  # path: MS-CXR's
        files, problem = [name for name in given if isinstance(name, str) and name], ""
        if id not in images:
            problem = f"the annotations name image {id}, which is not among the images"
        elif not files:
            problem = f"image {id} has no file_name"
        name = (id, names[category], phrase)
        shared = {"name": name, "category": category, "files": files, "problem": problem}
        yield {**shared, "regions": regions}


def _phrase(entry: Entry, image: Entry) -> str:
    """The phrase of an annotation: MS-CXR's, or (MDETR) that part of its image's caption."""
    said, spans = entry.get("label_text"), entry.get("tokens_positive")
    caption = image.get("caption")
    if isinstance(said, str):
        return said.strip()
    if not isinstance(caption, str) or not isinstance(spans, list):
        return ""
    parts = []
    for span in spans:
        whole = isinstance(span, list) and [type(end) for end in span] == [int, int]
        if not whole or not 0 <= span[0] < span[1] <= len(caption):
            return ""
        parts.append(caption[span[0] : span[1]].strip())
    return " ".join(parts)
