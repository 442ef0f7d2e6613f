"""A folder that holds one folder of images per class.

``datasets`` has a reader of such folders; it takes a class called "test" for all there is, gives no
labels where a class holds folders, and fails at the name of a file that is not UTF-8.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from torchvision.datasets.folder import make_dataset

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.labels import LABEL, as_words, check_caption, class_indices
from captum_ib.benchmark.data.pictures import SUFFIXES, max_pixels, read_picture, shown
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Images by class, for a model; the id is the path below the root.

    Options:

    - ``labels``: which class a folder is: ``"auto"`` (default), ``"names"`` or ``"order"``, see
      :func:`.labels.class_indices`.
    - ``caption``: for a dual encoder, a text with ``{label}``, e.g. ``"a photo of a {label}"``.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no classes or images in it; classes that the model does not know; no caption.
    """
    root, options = Path(config.path or ""), config.options
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder of images by class")
    entries = (entry for entry in os.scandir(root) if entry.is_dir())
    classes = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    if not classes:
        raise ValueError(f"{root} holds no folders, one per class, in which images lie")
    caption, most = options.get("caption"), max_pixels(options.get("max_pixels"))
    labels, words = None, []
    if loaded.kind == "dual":
        check_caption(caption, loaded)
        words = [as_words(shown(name)) for name in classes]
    else:
        labels = class_indices(classes, loaded, options.get("labels", "auto"))
    files = _images(root, classes)

    def read(place: int, name: str) -> Sample:
        path, number = files[place]
        image = read_picture(path, most)
        if labels is not None:
            return Sample(name, image, labels[number])
        return Sample(name, image, words[number], (caption or LABEL).replace(LABEL, words[number]))

    def name_of(place: int) -> str:
        return shown(os.path.relpath(files[place][0], root))

    return Dataset(len(files), name_of, read, options.get("shuffle", 0))


def _images(root: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Paths of the images, in order, each with the number of its class."""

    def counts(path: str) -> bool:
        parts = Path(os.path.relpath(path, root)).parts
        hidden = any(part.startswith(".") for part in parts)
        return not hidden and Path(path).suffix.lower() in SUFFIXES

    numbers = {name: number for number, name in enumerate(classes)}
    files = make_dataset(root, numbers, is_valid_file=counts, allow_empty=True)
    if not files:
        endings = ", ".join(sorted(SUFFIXES))
        raise ValueError(f"{root} holds no images: no file below its folders ends in {endings}")
    return files
