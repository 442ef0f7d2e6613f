"""How many noise draws and steps a map needs: Pearson r with the mean of four long runs.

    python -m benchmarks.draws --model vit-scenes --method coiba iba [--images 40]
    python -m benchmarks.draws --model clip-scenes --method m2ib [--images 64]

Reference: the mean of four runs with 10 independent draws and 10 steps, seeds 100–103. Each row:
the mean over images and seeds 0–2 of Pearson's r with the reference, and the worst image's mean.
"""

from __future__ import annotations

import argparse
from importlib.metadata import version

import torch
from torch import Tensor

from captum_ib import IBA, M2IB, CoIBA, DualEncoder, zoo
from captum_ib.zoo.evaluate import HELD_OUT_SEED

ROWS = [
    ("10 independent", {"n_samples": 10, "antithetic": False}),
    ("4 independent", {"n_samples": 4, "antithetic": False}),
    ("4 antithetic", {"n_samples": 4}),
    ("2 independent", {"n_samples": 2, "antithetic": False}),
    ("2 antithetic", {"n_samples": 2}),
    ("4 antithetic, 6 steps", {"n_samples": 4, "n_steps": 6}),
    ("4 antithetic, 8 steps", {"n_samples": 4, "n_steps": 8}),
    ("4 antithetic, 15 steps", {"n_samples": 4, "n_steps": 15}),
]


def correlation(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's r per sample."""
    a, b = one.flatten(1).double(), other.flatten(1).double()
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def maker(model_name: str, method: str, images: int):
    """A function of settings → the (image) maps of held-out scenes."""
    loaded = zoo.load(model_name)
    if method == "m2ib":
        scenes = zoo.scenes.captioned(images, seed=HELD_OUT_SEED, size=loaded.image_size[0])
        ids, mask = loaded.tokenizer(scenes.captions)
        dual = M2IB(DualEncoder.from_model(loaded.model))
        pair = (loaded.normalize(scenes.images), ids)
        return lambda **settings: dual.attribute(pair, additional_forward_args=mask, **settings)[0]
    scenes = zoo.scenes.labelled(images, seed=HELD_OUT_SEED, size=loaded.image_size[0])
    explain = {"coiba": CoIBA, "iba": IBA}[method](loaded.model)
    x, target = loaded.normalize(scenes.images), scenes.labels
    return lambda **settings: explain.attribute(x, target=target, **settings)


def main() -> None:
    """Print one table per method."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit-scenes")
    parser.add_argument("--method", nargs="+", default=["coiba", "iba"])
    parser.add_argument("--images", type=int, default=40)
    arguments = parser.parse_args()
    print(f"torch {version('torch')}, {arguments.images} images of {arguments.model}\n")
    for method in arguments.method:
        run = maker(arguments.model, method, arguments.images)
        long = {"n_samples": 10, "antithetic": False}
        reference = torch.stack([run(seed=100 + i, **long) for i in range(4)]).mean(0)
        print(f"| {method} | mean r | worst image |\n|---|---|---|", flush=True)
        for name, settings in ROWS:
            r = torch.stack([correlation(run(seed=s, **settings), reference) for s in range(3)])
            print(f"| {name} | {r.mean():.4f} | {r.mean(0).min():.3f} |", flush=True)
        print()


if __name__ == "__main__":
    main()
