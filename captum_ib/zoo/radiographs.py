"""Generated pictures like chest radiographs, with boxes and phrases as MS-CXR has them.

A stand-in for data that can't be shipped: enough to try a chain of tools, nothing to judge by.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ZONES = ("upper", "mid", "lower")
SIDES = ("right", "left")  # of the patient: the patient's right lies on the left of the picture
FINDINGS = ("opacity", "nodule", "consolidation")
_RADIUS = {"opacity": 0.085, "nodule": 0.04, "consolidation": 0.11}


@dataclass(frozen=True)
class Radiograph:
    """One picture.

    Attributes:
        image: ``(H, W)`` uint8.
        finding: one of :data:`FINDINGS`.
        phrase: what a report says of it.
        boxes: (x, y, width, height) in pixels, one per place of the finding.
    """

    image: np.ndarray
    finding: str
    phrase: str
    boxes: tuple[tuple[int, int, int, int], ...]


def radiographs(count: int, seed: int = 0, size: int = 224) -> list[Radiograph]:
    """Pictures of two lungs with a finding in one zone of one of them, or of both.

    Args:
        count: how many.
        seed: of all that is drawn; picture i is the same in a longer list.
        size: side in pixels.

    Raises:
        ValueError: fewer than one, or smaller than 32 pixels.

    >>> first = radiographs(2, seed=0)[0]
    >>> first.image.shape, len(first.boxes) >= 1
    ((224, 224), True)
    """
    if count < 1 or size < 32:
        raise ValueError(f"need at least 1 picture of 32 pixels, given {count} of {size}")
    return [_one(np.random.default_rng((seed, index)), size) for index in range(count)]


def write_radiographs(folder: Path, count: int, seed: int = 0, size: int = 224) -> Path:
    """Write pictures below ``files/`` and, as MS-CXR does, one JSON with boxes and phrases.

    Args:
        folder: that exists.
        count, seed, size: as for :func:`radiographs`.

    Returns:
        The JSON file, which data of kind ``coco`` reads.
    """
    (folder / "files").mkdir(exist_ok=True)
    images, annotations = [], []
    for number, one in enumerate(radiographs(count, seed, size)):
        name = f"{number:06d}.png"
        Image.fromarray(one.image).save(folder / "files" / name)
        path = f"files/{name}"
        images.append(
            {"id": number, "file_name": name, "path": path, "width": size, "height": size}
        )
        for box in one.boxes:
            annotations.append(
                {
                    "id": len(annotations),
                    "image_id": number,
                    "category_id": FINDINGS.index(one.finding),
                    "bbox": list(box),
                    "label_text": one.phrase,
                }
            )
    categories = [{"id": id, "name": name} for id, name in enumerate(FINDINGS)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    file = folder / "annotations.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def _one(draw: np.random.Generator, size: int) -> Radiograph:
    y, x = np.mgrid[0:size, 0:size] / size
    finding = FINDINGS[draw.integers(len(FINDINGS))]
    zone = int(draw.integers(len(ZONES)))
    both = draw.random() < 0.25
    sides = SIDES if both else (SIDES[draw.integers(2)],)
    picture = _body(draw, x, y)
    boxes = []
    for side in sides:
        where = (0.32 if side == "right" else 0.68) + draw.uniform(-0.04, 0.04)
        height = 0.3 + 0.19 * zone + draw.uniform(-0.03, 0.03)
        radius = _RADIUS[finding] * draw.uniform(0.85, 1.15)
        distance = ((x - where) ** 2 + (y - height) ** 2) / radius**2
        picture = picture + 0.45 * np.exp(-1.5 * distance)
        left, top, side_length = (
            int(size * v) for v in (where - radius, height - radius, 2 * radius)
        )
        boxes.append((left, top, side_length, side_length))
    picture = picture + draw.normal(0, 0.02, picture.shape)
    said = "both lungs" if both else f"the {sides[0]} lung"
    phrase = f"{finding} in the {ZONES[zone]} zone of {said}"
    pixels = (255 * picture.clip(0, 1)).astype(np.uint8)
    return Radiograph(pixels, finding, phrase, tuple(boxes))


def _body(draw: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A chest without a finding: body, lungs, ribs, heart and spine, values in [0, 1]."""
    body = _soft(1 - (((x - 0.5) / 0.47) ** 2 + ((y - 0.55) / 0.6) ** 2), 8)
    wide, tall = 0.15 * draw.uniform(0.92, 1.08), 0.32 * draw.uniform(0.95, 1.05)
    lungs = sum(
        _soft(1 - (((x - centre) / wide) ** 2 + ((y - 0.5) / tall) ** 2), 6)
        for centre in (0.32, 0.68)
    )
    arch = np.abs(x - 0.5) ** 1.5
    ribs = np.clip(np.cos(2 * np.pi * 11 * (y - 0.45 * arch) + draw.uniform(0, 6)), 0.6, 1) - 0.6
    heart = _soft(1 - (((x - 0.56) / 0.13) ** 2 + ((y - 0.66) / 0.15) ** 2), 6)
    spine = np.exp(-(((x - 0.5) / 0.035) ** 2))
    return 0.55 * body - 0.38 * lungs * body + 0.22 * ribs * body + 0.25 * (heart + spine) * body


def _soft(inside: np.ndarray, edge: float) -> np.ndarray:
    return 1 / (1 + np.exp(-edge * inside))
