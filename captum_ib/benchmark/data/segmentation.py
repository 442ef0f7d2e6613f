"""ImageNet-Segmentation as it is distributed (a MATLAB file), or a folder of images and masks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.hdf5 import MatFile
from captum_ib.benchmark.data.labels import LABEL, as_words, check_caption, class_indices
from captum_ib.benchmark.data.pictures import (
    SUFFIXES,
    max_pixels,
    read_mask,
    read_picture,
    shown,
)
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel

_MASKS = (".png", ".bmp", ".tif", ".tiff", ".gif", ".webp")


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Images with the pixels of their object.

    A path to a ``.mat`` file is ``gtsegs_ijcv.mat`` (Guillaumin et al., IJCV 2014); it names no
    classes, so a classifier's likeliest class is explained, as Chefer et al. do.

    A folder holds ``images/`` and ``masks/`` with the same paths below (``images/cat/1.jpg``,
    ``masks/cat/1.png``). Where all images lie in folders of their own, these are the classes.
    Options:

    - ``labels``: which class a folder is: ``"auto"`` (default), ``"names"`` or ``"order"``, see
      :func:`.labels.class_indices`; ``"none"``: the likeliest class.
    - ``caption``: for a dual encoder, a text with ``{label}``.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: no samples; classes that the model does not know; no classes for a dual encoder.
        MissingExtraError: a ``.mat`` file without h5py.
    """
    path, options = Path(config.path or ""), config.options
    most = max_pixels(options.get("max_pixels"))
    if path.is_file():
        return _from_file(path, most, options.get("shuffle", 0), loaded)
    images, masks = path / "images", path / "masks"
    for folder in (images, masks):
        if not folder.is_dir():
            raise FileNotFoundError(f"{path} is no .mat file, and has no folder {folder.name}")
    files = _files(images)
    classes = sorted({file.parts[0] for file in files if len(file.parts) > 1})
    named = bool(files) and all(len(file.parts) > 1 for file in files)
    labels, words = _asked(path, classes if named else [], options, loaded)
    caption = options.get("caption") or LABEL

    def read(place: int, name: str) -> Sample:
        file = files[place]
        # A mask's coordinates mean the pixels as they are stored.
        image = read_picture(images / file, most, upright=False)
        mask = read_mask(_mask_of(masks, file), image.size, most)
        if not mask.any():
            raise ValueError("the mask is empty")
        if loaded.kind == "dual":
            said = words[file.parts[0]]
            return Sample(name, image, said, caption.replace(LABEL, said), mask)
        return Sample(name, image, labels.get(file.parts[0]), mask=mask)

    return Dataset(len(files), lambda place: shown(files[place]), read, options.get("shuffle", 0))


def _from_file(path: Path, most: int, shuffle: int | None, loaded: LoadedModel) -> Dataset:
    if loaded.kind == "dual":
        raise ValueError(
            f"{path} names no classes, so there is no caption for {loaded.name}; give a folder of "
            "images and masks by class"
        )
    file = MatFile(path)

    def read(place: int, name: str) -> Sample:
        image, mask = file.read(place, most)
        return Sample(name, image, mask=mask)

    return Dataset(len(file), lambda place: f"{place:05d}", read, shuffle)


def _asked(
    path: Path, classes: list[str], options: Mapping[str, Any], loaded: LoadedModel
) -> tuple[dict[str, int], dict[str, str]]:
    """Each folder's class, and its words for a dual encoder."""
    if loaded.kind == "dual":
        check_caption(options.get("caption"), loaded)
        if not classes:
            raise ValueError(
                f"{path}/images has no folder for each class, so there is nothing to put into the "
                f"caption for {loaded.name}"
            )
        return {}, {name: as_words(shown(name)) for name in classes}
    rule = options.get("labels", "auto")
    if rule == "none" or not classes:
        if rule in ("names", "order"):
            raise ValueError(f"labels is {rule}, but images lie in {path}/images itself")
        return {}, {}
    return dict(zip(classes, class_indices(classes, loaded, rule), strict=True)), {}


def _files(images: Path) -> list[Path]:
    """Paths of the images below a folder, in order; links to folders are not followed."""
    found = []
    for folder, below, names in os.walk(images):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                found.append(Path(folder, name).relative_to(images))
    return sorted(found)


def _mask_of(masks: Path, file: Path) -> Path:
    """The mask of an image: the same path with the ending of a mask."""
    paths = [masks / file.with_suffix(ending) for ending in _MASKS]
    return next(filter(Path.exists, paths), paths[0])
