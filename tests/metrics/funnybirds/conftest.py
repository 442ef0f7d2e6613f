"""FunnyBirds in miniature, a model whose logits are sums, and the explanation that is right."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

PARTS = ("beak", "eye", "foot", "tail", "wing")
WEIGHTS = dict(zip(PARTS, (5.0, 4.0, 3.0, 2.0, 1.0), strict=True))
CLASSES = ((0, 0, 0, 0, 0), (0, 0, 1, 1, 1), (1, 1, 0, 0, 1), (1, 1, 1, 1, 0))
PLACE = {part: (8 * i + 4, 8) for i, part in enumerate(PARTS)}  # where each part's pixel is
OBJECTS = ((4, 24), (12, 24))
COLOUR = {
    "beak": (255, 255, 0),
    "eye": (255, 255, 253),
    "foot": (255, 0, 1),
    "tail": (0, 0, 255),
    "wing": (0, 255, 1),
}


def _picture(variants: dict[str, int], objects: set[int]) -> np.ndarray:
    pixels = np.zeros((40, 32, 3), np.uint8)
    for part, variant in variants.items():
        pixels[PLACE[part]] = 50 * (variant + 1)
    for number in objects:
        pixels[OBJECTS[number]] = 200
    return pixels


def _save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    """Four classes, one bird of each, two background objects each."""
    root = tmp_path_factory.mktemp("funnybirds")
    classes = [dict(zip(PARTS, variants, strict=True)) for variants in CLASSES]
    (root / "classes.json").write_text(
        json.dumps([{"class_idx": i, "parts": parts} for i, parts in enumerate(classes)])
    )
    listing = [{"class_idx": i, "bg_objects": "3,1,"} for i in range(len(classes))]
    (root / "dataset_test.json").write_text(json.dumps(listing))
    part_map = np.full((40, 32, 3), 170, np.uint8)
    for part, place in PLACE.items():
        part_map[place] = COLOUR[part]
    for number, place in enumerate(OBJECTS):
        part_map[place] = (204, 204, 204 + number)
    for i, parts in enumerate(classes):
        name = f"{i}/{i:06d}"
        _save(root / f"test/{name}.png", _picture(parts, {0, 1}))
        _save(root / f"test_part_map/{name}.png", part_map)
        for size in range(6):
            for kept in combinations(PARTS, size):
                picture = _picture({part: parts[part] for part in kept}, {0, 1})
                _save(root / f"test_interventions/{name}/body_{'_'.join(kept)}.png", picture)
        for number in (0, 1):
            picture = _picture(parts, {1 - number})
            folder = root / f"test_interventions/{name}/background_interventions"
            _save(folder / f"{number}.png", picture)
    return root


class SumOfParts(nn.Module):
    """f_c = Σ weights of the parts that class c has too, + 2 for object 0, + 0.5 for class 3."""

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.zeros(len(x), len(CLASSES), device=x.device)
        for i, part in enumerate(PARTS):
            variant = (x[:, 0, PLACE[part][0], PLACE[part][1]] * 255 / 50).round() - 1
            for number, variants in enumerate(CLASSES):
                logits[:, number] += WEIGHTS[part] * (variant == variants[i])
        logits += 2 * (x[:, 0, OBJECTS[0][0], OBJECTS[0][1]] > 0.5)[:, None]
        logits[:, 3] += 0.5
        return logits


@pytest.fixture
def model() -> nn.Module:
    return SumOfParts().eval()


@pytest.fixture
def oracle():
    """What each part and object really adds to the target's logit, at its pixel."""

    def explain(model, inputs, targets, sign: float = 1.0, **kwargs) -> np.ndarray:
        maps = np.zeros((len(inputs), 1, *inputs.shape[2:]), np.float32)
        for row, (x, target) in enumerate(zip(inputs, targets, strict=True)):
            for i, part in enumerate(PARTS):
                variant = round(float(x[0][PLACE[part]]) * 255 / 50) - 1
                if variant == CLASSES[target][i]:
                    maps[row, 0][PLACE[part]] = sign * WEIGHTS[part]
            maps[row, 0][OBJECTS[0]] = sign * 2
        return maps

    return explain
