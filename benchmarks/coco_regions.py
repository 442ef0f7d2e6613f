"""Our reading of COCO's regions against pycocotools' (pip install pycocotools; seed 0).

python -m benchmarks.coco_regions
"""

from __future__ import annotations

import numpy as np
from pycocotools import mask as reference  # pyright: ignore[reportMissingImports]

from captum_ib.benchmark.data.regions import polygon_mask, run_length_mask


def packed(rng: np.random.Generator, count: int) -> int:
    """How many of some random masks come back pixel by pixel from pycocotools' packed text."""
    equal = 0
    for _ in range(count):
        height, width = rng.integers(5, 120, 2)
        coarse = rng.random((height // 4 + 1, width // 4 + 1)) < rng.random()
        mask = np.kron(coarse, np.ones((4, 4)))[:height, :width] > 0
        mask ^= rng.random(mask.shape) < 0.05
        code = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
        code = {"size": list(code["size"]), "counts": code["counts"].decode()}
        equal += np.array_equal(run_length_mask(code, (int(height), int(width))), mask)
    return equal


def polygons(rng: np.random.Generator, count: int) -> np.ndarray:
    """IoU of random polygons of 3 to 29 corners and 20 to 80 pixels radius, drawn both ways."""
    scores = []
    for _ in range(count):
        corners = rng.integers(3, 30)
        angles = np.sort(rng.random(corners)) * 2 * np.pi
        radii = rng.uniform(20, 80, corners)
        points = np.stack([150 + radii * np.cos(angles), 100 + radii * np.sin(angles)], axis=1)
        polygon = points.ravel().tolist()
        theirs = reference.decode(reference.frPyObjects([polygon], 200, 300))[..., 0] > 0
        ours = polygon_mask([polygon], (200, 300))
        scores.append((ours & theirs).sum() / (ours | theirs).sum())
    return np.array(scores)


def main() -> None:
    """Print both comparisons."""
    rng = np.random.default_rng(0)
    print(f"packed run lengths: {packed(rng, 300)} of 300 masks equal pixel by pixel")
    scores = polygons(rng, 300)
    print(f"polygons: IoU {scores.mean():.4f} on average of 300, lowest {scores.min():.4f}")


if __name__ == "__main__":
    main()
