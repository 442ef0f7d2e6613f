"""A folder that holds one folder of images per class."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.order import ordered
from captum_ib.benchmark.data.pictures import SUFFIXES, max_pixels, read_picture
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.benchmark.data.templates import LABEL, check_template, fill_in
from captum_ib.loading.load import LoadedModel


class FolderData:
    """Images by class; a sample's id is its path below the root.

    Args:
        root: holds the folders of the classes.
        classes: their names.
        labels: per class its index in the model; ``None`` for a dual encoder.
        caption: text with ``{label}`` in it; ``None`` for a classifier.
        most: pixels per image.
    """

    def __init__(
        self,
        root: Path,
        classes: Sequence[str],
        labels: Sequence[int] | None,
        caption: str | None,
        most: int,
    ) -> None:
        self.root, self.classes, self.labels = root, tuple(classes), labels
        self.caption, self.most = caption, most
        self._paths: list[str] = []
        self._class_of = array("l")
        for number, name in enumerate(self.classes):
            for path in _images(root / name):
                self._paths.append(os.path.join(name, path))
                self._class_of.append(number)

    def __len__(self) -> int:
        return len(self._paths)

    def id(self, index: int) -> str:
        """The path below the root, with ``/``; bytes that are no UTF-8 are written out."""
        path = Path(self._path(index)).as_posix()
        return os.fsencode(path).decode("utf-8", "backslashreplace")

    def read(self, index: int) -> Sample:
        """Read an image."""
        name, number = self.id(index), self._class_of[index]
        image = read_picture(name, self.root / self._path(index), self.most)
        if self.labels is not None:
            return Sample(name, image, label=self.labels[number])
        words = _words(self.classes[number])
        return Sample(name, image, words, caption=fill_in(self.caption or LABEL, words))

    def _path(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return self._paths[index]


def _words(folder: str) -> str:
    """A folder's name as words: ``golden_retriever`` is a golden retriever."""
    return folder.replace("_", " ").strip()


def _images(folder: Path) -> Iterator[str]:
    """Paths of the images below a folder, in order."""
    for home, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for file in sorted(files):
            if not file.startswith(".") and Path(file).suffix.lower() in SUFFIXES:
                yield os.path.relpath(os.path.join(home, file), folder)


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Images by class, for a model.

    Options:

    - ``labels``: ``"names"``, each folder is named after a class of the model (or its index);
      ``"order"``, the folders in alphabetical order are classes 0, 1, 2, …; ``"auto"`` (default),
      names if the model knows all of them, order if it knows none and has as many classes.
    - ``caption``: for a dual encoder, a text with ``{label}``, e.g. ``"a photo of a {label}"``.
    - ``shuffle``: seed of the order (default 0, so that the first samples are of all classes);
      ``None`` for the order of the folders.
    - ``max_pixels``: larger images are refused.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: no classes or images in it; classes that the model does not know; no caption.
    """
    root, options = Path(config.path or ""), config.options
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is no folder of images by class")
    classes = sorted(
        entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."
    )
    if not classes:
        raise ValueError(f"{root} holds no folders, one per class, in which images lie")
    caption = options.get("caption")
    dual = loaded.kind == "dual"
    if dual:
        check_template(caption, loaded.name)
    labels = None if dual else class_indices(classes, loaded, options.get("labels", "auto"))
    data = FolderData(root, classes, labels, caption, max_pixels(options.get("max_pixels")))
    if not len(data):
        endings = ", ".join(sorted(SUFFIXES))
        raise ValueError(f"{root} holds no images: no file below its folders ends in {endings}")
    return ordered(data, options.get("shuffle", 0))


def class_indices(classes: Sequence[str], loaded: LoadedModel, rule: str = "auto") -> list[int]:
    """The model's class for each folder.

    Args:
        classes: names of the folders, in alphabetical order.
        loaded: the model.
        rule: ``"names"``, ``"order"`` or ``"auto"``, see :func:`open_dataset`.

    Raises:
        ValueError: a name that is no class; two folders of one class; another number of folders
            than of classes.
    """
    found = [None if rule == "order" else _index(name, loaded) for name in classes]
    if rule == "names" or any(index is not None for index in found):
        return _by_name(classes, found, loaded)
    count = len(classes) if loaded.labels is None else len(loaded.labels)
    if len(classes) > count or (rule == "auto" and len(classes) < count):
        raise ValueError(
            f"there are {len(classes)} folders for the {count} classes of {loaded.name}, and no "
            f"folder is named after one; they are called {_some(loaded.labels or ())}"
        )
    return list(range(len(classes)))


def _by_name(classes: Sequence[str], found: Sequence[int | None], loaded: LoadedModel) -> list[int]:
    folder_of: dict[int, str] = {}
    for name, index in zip(classes, found, strict=True):
        if index is None:
            raise ValueError(
                f"folder {name!r} is no class of {loaded.name} (they are called "
                f"{_some(loaded.labels or ())}); to take the folders in alphabetical order for "
                "classes 0, 1, 2, ..., set the option labels to order"
            )
        if index in folder_of:
            both = f"folders {folder_of[index]!r} and {name!r}"
            raise ValueError(f"{both} are the same class of {loaded.name}, {index}")
        folder_of[index] = name
    return list(folder_of)


def _some(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (", ..." if len(labels) > 5 else "") or "by numbers"


def _index(name: str, loaded: LoadedModel) -> int | None:
    for spelling in (name, _words(name)):
        try:
            return loaded.class_index(spelling)
        except ValueError:
            continue
    return None
