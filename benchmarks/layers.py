"""The numbers of docs/layers.md: which layer each method should explain, on the zoo and FunnyBirds.

python benchmarks/layers.py vit-scenes --n 64
python benchmarks/layers.py clip-scenes --n 64
python benchmarks/layers.py funnybirds --data ../shared/funnybirds --model ../shared/conformance/vit
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import captum
import numpy as np
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder, zoo
from captum_ib.metrics import LayerRanking, default_candidates, rank_layers
from captum_ib.metrics.funnybirds.data import FunnyBirds

DRAWS: dict[str, Any] = {"n_samples": 4, "antithetic": True}
HELD_OUT = 1_000_003  # the seed that no zoo model was trained on


def report(
    ranking: LayerRanking,
    paper: str,
    masks: Tensor | None,
    started: float,
    args: argparse.Namespace,
) -> None:
    """The ranking against the papers' layer, and the pointing game where there are masks."""
    if args.plots is not None:
        file = args.plots / f"layers-{args.subject}-{ranking.method.lower()}.png"
        ranking.plot(file, "insertion − deletion")
    print(f"\n### {ranking.method} ({ranking.scores.shape[1]} samples)\n", flush=True)
    print(ranking.table(paper))
    if masks is not None:
        print("\n| layers | pointing game | − papers' |\n|---|---|---|")
        hits = {
            name: pointing(maps, masks)
            for name, maps in zip(ranking.names, ranking.maps, strict=True)
        }
        for name, values in hits.items():
            gap = values - hits[paper]
            error = gap.std(ddof=1) / np.sqrt(len(gap))
            print(f"| {name} | {values.mean():.2f} | {gap.mean():+.2f} ± {error:.2f} |")
    print(f"\n{time.time() - started:.0f} s", flush=True)


def pointing(maps: Tensor, masks: Tensor) -> np.ndarray:
    """1 where a map's largest value lies in the mask, else 0; `(N,)`."""
    largest = maps.flatten(1).argmax(dim=1)
    return masks.flatten(1)[torch.arange(len(masks)), largest].double().numpy()


def shortened(candidates: dict[str, Any], keep: Iterable[int]) -> dict[str, Any]:
    """Some of the candidates, by their position."""
    names = list(candidates)
    return {names[index]: candidates[names[index]] for index in keep if index < len(names)}


def classifier(
    model: torch.nn.Module,
    images: Tensor,
    masks: Tensor | None,
    args: argparse.Namespace,
    **black: Any,
) -> None:
    depth = len(model.blocks)
    papers = {
        IBA: f"blocks.{depth // 2}",
        NIB: f"blocks.{int(0.75 * depth)}",
        CoIBA: f"from blocks.{depth // 3} on",
    }
    for method, paper in papers.items():
        started = time.time()
        explainer = method(model)
        candidates = default_candidates(explainer)
        kept = sorted({*range(0, depth, args.step), list(candidates).index(paper)})
        draws = {} if method is NIB else DRAWS
        ranking = rank_layers(
            explainer, images, candidates=shortened(candidates, kept), seed=0, **black, **draws
        )
        report(ranking, paper, masks, started, args)


def vit_scenes(args: argparse.Namespace) -> None:
    loaded, scenes = zoo.load("vit-scenes"), zoo.scenes.labelled(args.n, seed=HELD_OUT)
    images = loaded.normalize(scenes.images)
    classifier(loaded.model, images, scenes.mask, args, mean=loaded.mean, std=loaded.std)


def clip_scenes(args: argparse.Namespace) -> None:
    loaded, scenes = zoo.load("clip-scenes"), zoo.scenes.captioned(args.n, seed=HELD_OUT)
    dual = DualEncoder.from_model(loaded.model)
    ids, attention = loaded.tokenizer(scenes.captions)
    inputs = (loaded.normalize(scenes.images), ids)
    for method in (M2IB, NIB):
        started = time.time()
        explainer = method(dual)
        pairs = default_candidates(explainer).values()
        ranking = rank_layers(
            explainer,
            inputs,
            additional_forward_args=attention,
            candidates={f"block {index} of 8": pair for index, pair in enumerate(pairs)},
            mean=loaded.mean,
            std=loaded.std,
            seed=0,
            **({} if method is NIB else DRAWS),
        )
        report(ranking, "block 6 of 8", scenes.mask, started, args)


def funnybirds(args: argparse.Namespace) -> None:
    config = json.loads((args.model / "config.json").read_text())
    model = VisionTransformer(**config["kwargs"]).eval()
    model.load_state_dict(load_file(args.model / "model.safetensors"))
    data = FunnyBirds(args.data)
    pictures = torch.stack([data.image(bird) for bird in data.birds[: args.n]])
    small = torch.nn.functional.interpolate(
        pictures, (128, 128), mode="bilinear", antialias=True, align_corners=False
    )
    classifier(model, (small - 0.5) / 0.5, None, args, mean=0.5, std=0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=["vit-scenes", "clip-scenes", "funnybirds"])
    parser.add_argument("--n", type=int, default=64, help="samples")
    parser.add_argument("--step", type=int, default=1, help="every so many blocks")
    parser.add_argument("--plots", type=Path, help="a folder for the rankings' plots")
    parser.add_argument("--data", type=Path, default=Path("../shared/funnybirds"))
    parser.add_argument("--model", type=Path, default=Path("../shared/conformance/vit"))
    args = parser.parse_args()
    versions = f"torch {torch.__version__}, captum {captum.__version__}"
    print(f"python {' '.join(sys.argv)}; seed 0; {versions}", flush=True)
    run = {"vit-scenes": vit_scenes, "clip-scenes": clip_scenes, "funnybirds": funnybirds}
    run[args.subject](args)


if __name__ == "__main__":
    main()
