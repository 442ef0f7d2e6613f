"""PASCAL VOC: one sample per image and class in it, its pixels or boxes as mask."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL.Image import Image

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.labels import LABEL, category_indices, check_caption
from captum_ib.benchmark.data.objects_xml import boxes_mask, listed_objects
from captum_ib.benchmark.data.pictures import max_pixels, read_indices, read_picture
from captum_ib.benchmark.data.rows import Held
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel

CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike "
    "person pottedplant sheep sofa train tvmonitor"
).split()
"""In the order of the values, from 1, of a segmentation's pixels; 255, the seam, is none."""

_PLAIN = re.compile(r"\w[\w.-]*")
_MOST = 2**24  # bytes of a list of images


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Images with a class's region as mask, for a model; ids are image and class.

    The path is the folder of a year, e.g. ``VOCdevkit/VOC2012``. Options:

    - ``split``: ``"val"`` (default), ``"train"``, or another list in ``ImageSets``.
    - ``shapes``: ``"mask"`` (default), from ``SegmentationClass``; or ``"box"``.
    - ``categories``: names; only these (default: all that the model has a class for, or all for a
      dual encoder).
    - ``caption``: for a dual encoder (default: ``"a photo of a {label}"``).

    Raises:
        FileNotFoundError: there is no such folder or list.
        ValueError: a list with names that are none; a category that is not there or means nothing
            to the model; no samples.
    """
    root, options = Path(config.path or ""), config.options
    boxes, caption = (
        options.get("shapes") == "box",
        options.get("caption") or f"a photo of a {LABEL}",
    )
    most = max_pixels(options.get("max_pixels"))
    check_caption(caption, loaded)
    names = dict(enumerate(CLASSES, start=1))
    labels = category_indices("PASCAL VOC", names, options.get("categories") or (), loaded)
    images = listed_images(root, "Main" if boxes else "Segmentation", options.get("split", "val"))
    rows = Held(_samples(root, images, {names[number]: number for number in labels}))

    def read(place: int, name: str) -> Sample:
        row = rows[place]
        if row["problem"]:
            raise ValueError(row["problem"])
        image, mask = _read(root, row, boxes, most)
        label = labels[row["number"]]
        if label is not None:
            return Sample(name, image, label, mask=mask)
        said = row["class"]
        return Sample(name, image, said, caption.replace(LABEL, said), mask)

    def name_of(place: int) -> str:
        row = rows[place]
        return "/".join(filter(None, (row["image"], row["class"])))

    return Dataset(len(rows), name_of, read, options.get("shuffle", 0))


def listed_images(root: Path, kind: str, split: str) -> list[str]:
    """Names of the images of a list, which can't lead out of the folder.

    Raises:
        FileNotFoundError: no such folder or list.
        ValueError: a name that is none, or a list of more than 16 MiB.
    """
    if not _PLAIN.fullmatch(split):
        raise ValueError(f"split is the name of a list, given {split!r}")
    path = root / "ImageSets" / kind / f"{split}.txt"
    if not path.is_file():
        raise FileNotFoundError(f"{root} holds no PASCAL VOC: {path} is missing")
    if path.stat().st_size > _MOST:
        raise ValueError(f"{path} is larger than 16 MiB: it is no list of images")
    names = [line.split()[0] for line in path.read_text("utf-8").splitlines() if line.strip()]
    for number, name in enumerate(names, start=1):
        if not _PLAIN.fullmatch(name):
            raise ValueError(f"{path}:{number}: {name[:40]!r} is no name of an image")
    return names


def _samples(root: Path, images: list[str], numbers: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """A row for each image and class; one that says why for an image that can't be read."""
    for image in images:
        row: dict[str, Any] = {"image": image, "class": "", "number": 0, "problem": ""}
        try:
            found = listed_objects(root / "Annotations" / f"{image}.xml")
        except ValueError as error:
            yield {**row, "problem": str(error)}
            continue
        classes = {name for one in found for name in one.names if name in numbers}
        for name in sorted(classes):
            yield {**row, "class": name, "number": numbers[name]}


def _read(root: Path, row: Mapping[str, Any], boxes: bool, most: int) -> tuple[Image, np.ndarray]:
    # The coordinates mean the pixels as they are stored.
    image = read_picture(root / "JPEGImages" / f"{row['image']}.jpg", most, upright=False)
    if boxes:
        found = listed_objects(root / "Annotations" / f"{row['image']}.xml")
        mine = [one for one in found if row["class"] in one.names]
        return image, boxes_mask(mine, (image.height, image.width))
    path = root / "SegmentationClass" / f"{row['image']}.png"
    mask = read_indices(path, image.size, most) == row["number"]
    if not mask.any():
        raise ValueError(f"no pixel of the segmentation is {row['class']}")
    return image, mask
