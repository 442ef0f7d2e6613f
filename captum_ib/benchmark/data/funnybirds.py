"""FunnyBirds as samples: pictures with their class, and the pixels of the bird's five parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from captum_ib.benchmark.config import DataConfig
from captum_ib.benchmark.data.pictures import max_pixels, read_picture
from captum_ib.benchmark.data.samples import Dataset, Sample
from captum_ib.loading.load import LoadedModel
from captum_ib.metrics.funnybirds import PARTS, FunnyBirds


def open_dataset(config: DataConfig, loaded: LoadedModel) -> Dataset:
    """Birds for a classifier, called e.g. ``test/000012``.

    Option: ``split`` (``"test"``, default, or ``"train"``, which has no masks).

    Raises:
        FileNotFoundError: the path holds no FunnyBirds.
        ValueError: the model is no classifier or has another number of classes.
    """
    if loaded.kind != "classifier":
        raise ValueError(f"FunnyBirds needs a classifier; {loaded.name} is a dual encoder")
    root, options = Path(config.path or ""), config.options
    split, most = options.get("split", "test"), max_pixels(options.get("max_pixels"))
    for file in ("classes.json", f"dataset_{split}.json"):
        if not (root / file).is_file():
            raise FileNotFoundError(f"{root} holds no FunnyBirds: {file} is missing")
    birds, maps = FunnyBirds(root, split), root / f"{split}_part_map"
    if loaded.labels is not None and len(loaded.labels) != len(birds.classes):
        raise ValueError(
            f"FunnyBirds at {root} has {len(birds.classes)} classes, {loaded.name} has "
            f"{len(loaded.labels)}"
        )

    def read(place: int, name: str) -> Sample:
        bird = birds.birds[place]
        file = Path(str(bird.target), f"{place:06d}.png")
        image = read_picture(root / split / file, most)
        if not maps.is_dir():
            return Sample(name, image, bird.target)
        pixels = np.asarray(read_picture(maps / file, most))
        if pixels.shape[1::-1] != image.size:
            raise ValueError("the part map is of another size than the image")
        # The parts alone tell the classes apart; ground and body are no evidence.
        mask, colours = np.zeros(pixels.shape[:2], dtype=bool), birds.colours(bird)
        for colour in (colour for part in PARTS for colour in colours[part]):
            mask |= (pixels == colour).all(axis=-1)
        return Sample(name, image, bird.target, mask=mask)

    return Dataset(
        len(birds), lambda place: f"{split}/{place:06d}", read, options.get("shuffle", 0)
    )
