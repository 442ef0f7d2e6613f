"""Grad-ECLIP, LeGrad, CLIP Surgery, MaskCLIP, TokenTM: against original code, and on scenes.

    python -m benchmarks.readings ../shared/conformance
    python -m benchmarks.readings --scenes 64

With a folder: per output of original code the largest absolute difference over the largest value of
all samples. With scenes: held-out pairs of ``clip-scenes``; how often a pixel of a mentioned object
scores above another pixel (map and mask at 28 × 28), and a content word above another word; and how
many maps are constant.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from captum.attr import LayerAttribution
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import max_pool2d

from captum_ib import (
    CLIPSurgery,
    DualEncoder,
    GenericAttention,
    GradECLIP,
    LeGrad,
    MaskCLIP,
    TokenTM,
    zoo,
)
from captum_ib.loading.load import load
from captum_ib.zoo.evaluate import HELD_OUT_SEED, auc

ONE_HEAD: dict[str, Any] = {"relu_attributions": True, "joined_heads": True}
ON_SCENES: list[tuple[Any, dict[str, Any]]] = [
    (GenericAttention, {}),
    (GradECLIP, {}),
    (GradECLIP, {"relu_attributions": True}),
    (GradECLIP, ONE_HEAD),
    (GradECLIP, {"similarity": "none"}),
    (LeGrad, {}),
    (LeGrad, {"pooling": "mean"}),
    (LeGrad, {"pooling": "mean", "start_layer": -2}),
    (CLIPSurgery, {}),
    (MaskCLIP, {}),
    (MaskCLIP, {"key_similarity": True}),
    (TokenTM, {}),
]
ON_PAIRS: list[tuple[str, Any, dict[str, Any], int]] = [
    ("gradeclip_image_signed", GradECLIP, {}, 1),
    ("gradeclip_image_heads1", GradECLIP, ONE_HEAD, 1),
    ("maskclip_image", MaskCLIP, {"key_similarity": True}, 1),
    ("legrad_image_last2", LeGrad, {"pooling": "mean", "start_layer": -2}, 2),  # they sum
    ("legrad_image_all", LeGrad, {"pooling": "mean"}, 8),
    ("clipsurgery_image", CLIPSurgery, {}, 1),
]


def report(name: str, found: Tensor, expected: Tensor) -> None:
    """One line: the largest difference over the largest value."""
    gap = (found.flatten(1) - expected.flatten(1)).abs().max() / expected.abs().max()
    print(f"{name:30} {gap:.1e}")


def against_original_code(folder: Path) -> None:
    """Print the differences."""
    clip = load(str(folder / "clip"), mean=[0.5] * 3, std=[0.5] * 3).model
    data = load_file(folder / "clip_pairs.safetensors")
    expected = load_file(folder / "clip_comparators.safetensors")
    pair = data["pixel_values"], data["input_ids"]
    for key, method, settings, factor in ON_PAIRS:
        explain = method(DualEncoder.from_model(clip)).attribute
        image, _ = explain(pair, additional_forward_args=data["attention_mask"], **settings)
        report(key, factor * image, expected[key])
    vit = load(str(folder / "vit")).model
    data = load_file(folder / "vit_images.safetensors")
    expected = load_file(folder / "vit_comparators.safetensors")
    pixels, target = data["pixel_values"], data["target"]
    found = LeGrad(vit).attribute(pixels, target=target, pooling="mean")
    report("legrad_torchcam_all", found, expected["legrad_torchcam_all"])
    found = TokenTM(vit).attribute(pixels, target=target)
    report("tokentm_reimpl", found, expected["tokentm_reimpl"][:, 1:])


def on_scenes(n: int) -> None:
    """Print how well objects and words are found."""
    scenes_zoo = zoo.load("clip-scenes")
    size, tokenizer = scenes_zoo.image_size, scenes_zoo.tokenizer
    scenes = zoo.scenes.captioned(n, seed=HELD_OUT_SEED, size=size)
    ids, mask = tokenizer(scenes.captions, pad_to=tokenizer.max_length)
    pair = scenes_zoo.normalize(scenes.images), ids
    objects = max_pool2d(scenes.mask.float().reshape(n, 1, *size), size[0] // 28).bool()
    for method, settings in ON_SCENES:
        explain = method(DualEncoder.from_model(scenes_zoo.model)).attribute
        image, text = explain(pair, additional_forward_args=mask, **settings)
        fine = LayerAttribution.interpolate(image, objects.shape[2:], "bilinear")
        shares = [float(auc(a.flatten(), b.flatten())) for a, b in zip(fine, objects, strict=True)]
        words = []
        for row, content in zip(text, scenes.content, strict=True):
            marks = torch.as_tensor(content).bool()  # the begin token comes before the words
            words.append(float(auc(row[1 : len(marks) + 1], marks)))
        name = f"{method.__name__} {settings or ''}"
        flat = [int((each.flatten(1).std(dim=1) == 0).sum()) for each in (image, text)]
        print(f"{name:75} image {mean(shares)}  words {mean(words)}  constant {flat}", flush=True)


def mean(values: list[float]) -> str:
    """With its standard error."""
    known = torch.tensor(values)
    known = known[~known.isnan()]
    return f"{known.mean():.3f} ± {known.std() / len(known) ** 0.5:.3f}"


def main() -> None:
    """Print one of the two."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="with outputs of original code")
    parser.add_argument("--scenes", type=int, default=0, help="how many pairs")
    given = parser.parse_args()
    print(f"torch {torch.__version__}")
    if given.folder is not None:
        against_original_code(given.folder)
    if given.scenes:
        on_scenes(given.scenes)


if __name__ == "__main__":
    main()
