"""FunnyBirds on disk: pictures, part maps and interventions in the original layout."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from captum_ib.rgb import as_rgb

PARTS = ("beak", "eye", "foot", "tail", "wing")

# Part-map colours; a part of two halves has two, so that each half is dilated on its own.
_COLOURS: dict[str | int, tuple[tuple[int, int, int], ...]] = {
    "beak": ((255, 255, 0),),
    "eye": ((255, 255, 253), (255, 255, 254)),
    "foot": ((255, 0, 1), (255, 0, 2)),
    "tail": ((0, 0, 255),),
    "wing": ((0, 255, 1), (0, 255, 2)),
}
_FIRST_OBJECT = (204, 204, 204)


@dataclass(frozen=True)
class Bird:
    """One sample: its position in the list, its class, how many background objects it has."""

    index: int
    target: int
    n_objects: int


class FunnyBirds:
    """The data set under ``root`` (Hesse, Schaub-Meyer, Roth, ICCV 2023), read image by image.

    Expected below ``root``: ``classes.json``, ``dataset_<split>.json``, the pictures as
    ``<split>/<class>/<index:06d>.png``, and for the protocols ``<split>_part_map/`` and
    ``<split>_interventions/`` with, per sample, one image per subset of kept parts
    (``body_beak_tail.png``) and one per removed background object
    (``background_interventions/<n>.png``). All are RGB or RGBA images of one size.

    Args:
        root: the folder that holds ``classes.json``.
        split: ``"test"`` (has interventions) or ``"train"``.

    Attributes:
        classes: per class, which variant of each of the five parts it has.
        birds: the samples, in the order of ``dataset_<split>.json``.

    Raises:
        FileNotFoundError: ``root`` is no such tree.
        ValueError: a class lacks one of the five parts, or a sample names an unknown class.
    """

    def __init__(self, root: str | Path, split: str = "test") -> None:
        self.root, self.split = Path(root), split
        classes = json.loads((self.root / "classes.json").read_text())
        ordered = sorted(classes, key=lambda entry: entry["class_idx"])
        self.classes: list[dict[str, int]] = [entry["parts"] for entry in ordered]
        for number, (entry, parts) in enumerate(zip(ordered, self.classes, strict=True)):
            if entry["class_idx"] != number or set(parts) != set(PARTS):
                raise ValueError(
                    f"{self.root / 'classes.json'}: expected classes 0, 1, 2, … with the parts "
                    f"{', '.join(PARTS)}, but entry {number} is class {entry['class_idx']} with "
                    f"{', '.join(sorted(parts))}"
                )
        listing = self.root / f"dataset_{split}.json"
        self.birds = [
            Bird(index, entry["class_idx"], _count(entry["bg_objects"]))
            for index, entry in enumerate(json.loads(listing.read_text()))
        ]
        for bird in self.birds:
            if not 0 <= bird.target < len(self.classes):
                raise ValueError(
                    f"{listing}: sample {bird.index} is of class {bird.target}, but "
                    f"classes.json has {len(self.classes)} classes"
                )

    def __len__(self) -> int:
        """Number of samples in the split."""
        return len(self.birds)

    def image(self, bird: Bird) -> Tensor:
        """The picture, ``(3, H, W)`` in [0, 1]."""
        return _to_tensor(_read(self._folder("", bird).with_suffix(".png")))

    def part_map(self, bird: Bird) -> np.ndarray:
        """The part map, ``(H, W, 3)`` of bytes; one colour per part, half of a part, or object."""
        return _read(self._folder("_part_map", bird).with_suffix(".png"))

    def with_parts(self, bird: Bird, kept: Iterable[str]) -> Tensor:
        """The same scene, of the bird's parts only ``kept`` (and the body); ``(3, H, W)``."""
        kept = set(kept)
        if not kept <= set(PARTS):
            raise ValueError(f"parts are {', '.join(PARTS)}; given {', '.join(sorted(kept))}")
        name = "body_" + "_".join(sorted(kept)) + ".png"
        return _to_tensor(_read(self._folder("_interventions", bird) / name))

    def without_object(self, bird: Bird, number: int) -> Tensor:
        """The same scene without its background object ``number``; ``(3, H, W)``."""
        folder = self._folder("_interventions", bird) / "background_interventions"
        return _to_tensor(_read(folder / f"{number}.png"))

    def colours(self, bird: Bird) -> dict[str | int, tuple[tuple[int, int, int], ...]]:
        """Part-map colours per key: the five part names, then background objects 0, 1, 2, …"""
        colours = dict(_COLOURS)
        red, green, blue = _FIRST_OBJECT
        for number in range(bird.n_objects):
            colours[number] = ((red, green, blue + number),)
        return colours

    def minimal_sets(self, target: int) -> list[frozenset[str]]:
        """The smallest sets of parts that tell ``target`` from every other class.

        A set of parts is sufficient when no other class has the same variants of all of them, and
        minimal when no proper subset is sufficient.
        """
        others = [parts for number, parts in enumerate(self.classes) if number != target]
        own = self.classes[target]
        found: list[frozenset[str]] = []
        for size in range(1, len(PARTS) + 1):
            for parts in map(frozenset, combinations(PARTS, size)):
                if any(smaller <= parts for smaller in found):
                    continue
                if not any(all(own[part] == other[part] for part in parts) for other in others):
                    found.append(parts)
        return found

    def shared_parts(self, first: int, second: int) -> frozenset[str]:
        """The parts of which two classes have the same variant."""
        one, two = self.classes[first], self.classes[second]
        return frozenset(part for part in PARTS if one[part] == two[part])

    def _folder(self, kind: str, bird: Bird) -> Path:
        return self.root / f"{self.split}{kind}" / str(bird.target) / f"{bird.index:06d}"


def _count(listed: str) -> int:
    """Length of the renderer's comma-separated list, which ends in a comma."""
    return len([entry for entry in listed.split(",") if entry])


def _read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(as_rgb(image))


def _to_tensor(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
