"""FunnyBirds as samples: pictures with their class, and the pixels of the bird's five parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.order import ordered
from captum_ib.benchmark.data.pictures import max_pixels, read_picture
from captum_ib.benchmark.data.samples import Dataset, Sample, UnreadableSampleError
from captum_ib.loading.load import LoadedModel
from captum_ib.metrics.funnybirds import PARTS, FunnyBirds


class BirdData:
    """Birds in the order of ``dataset_<split>.json``; ids are ``test/000012``.

    Args:
        birds: the data set.
        most: pixels per image.
    """

    def __init__(self, birds: FunnyBirds, most: int) -> None:
        self.birds, self.most = birds, most
        self._mapped = (birds.root / f"{birds.split}_part_map").is_dir()

    def __len__(self) -> int:
        return len(self.birds)

    def id(self, index: int) -> str:
        """The split and the number that names the bird's files."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return f"{self.birds.split}/{index:06d}"

    def read(self, index: int) -> Sample:
        """Read a bird; the mask is that of its parts, which alone tell the classes apart."""
        name, bird = self.id(index), self.birds.birds[index]
        file = Path(str(bird.target), f"{index:06d}.png")
        image = read_picture(name, self.birds.root / self.birds.split / file, self.most)
        if not self._mapped:
            return Sample(name, image, bird.target)
        folder = self.birds.root / f"{self.birds.split}_part_map"
        pixels = np.asarray(read_picture(name, folder / file, self.most))
        if pixels.shape[1::-1] != image.size:
            raise UnreadableSampleError(name, "the part map is of another size than the image")
        colours = self.birds.colours(bird)
        mask = np.zeros(pixels.shape[:2], dtype=bool)
        for colour in (colour for part in PARTS for colour in colours[part]):
            mask |= (pixels == colour).all(axis=-1)
        return Sample(name, image, bird.target, mask=mask)


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Birds for a classifier.

    Options: ``split`` (``"test"``, default, or ``"train"``, which has no masks), ``shuffle`` (seed
    of the order, default 0; ``None``: as stored), ``max_pixels``.

    Raises:
        FileNotFoundError: the path holds no FunnyBirds.
        ValueError: the model is no classifier or has another number of classes.
    """
    if loaded.kind != "classifier":
        raise ValueError(f"FunnyBirds needs a classifier; {loaded.name} is a dual encoder")
    root = Path(config.path or "")
    split = config.options.get("split", "test")
    for file in ("classes.json", f"dataset_{split}.json"):
        if not (root / file).is_file():
            raise FileNotFoundError(f"{root} holds no FunnyBirds: {file} is missing")
    birds = FunnyBirds(root, split)
    if loaded.labels is not None and len(loaded.labels) != len(birds.classes):
        raise ValueError(
            f"FunnyBirds at {root} has {len(birds.classes)} classes, {loaded.name} has "
            f"{len(loaded.labels)}"
        )
    data = BirdData(birds, max_pixels(config.options.get("max_pixels")))
    return ordered(data, config.options.get("shuffle", 0))
