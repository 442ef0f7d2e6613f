"""Which stage of a CNN to explain: a small ResNet, trained here on the zoo's scenes.

python -m benchmarks.staged --n 64

No package carries a network whose evidence is known, so it learns the shapes of `zoo.scenes` first
(some minutes on one core). Then every block is ranked by ΔInsDel, as in docs/layers.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import captum
import torch
from timm.models.resnet import BasicBlock, ResNet
from torch import Tensor, nn

from benchmarks.layers import DRAWS, HELD_OUT, pointing
from captum_ib import IBA, NIB, CoIBA, zoo
from captum_ib.metrics import default_candidates, rank_layers

CLASSES = 7
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "ResNet": lambda: ResNet(
        BasicBlock, [1, 1, 2, 1], num_classes=CLASSES, channels=(24, 48, 96, 128)
    ),
}
MEAN, STD = 0.5, 0.25


def trained(name: str, steps: int, batch: int = 48) -> nn.Module:
    """A network after `steps` batches of scenes that are all new to it; seed 0."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for step in range(steps):
        most = min(4, 1 + 6 * step // steps)  # one object first, then more
        scenes = zoo.scenes.labelled(batch, seed=0, start=step * batch, objects=(1, most))
        loss = nn.functional.cross_entropy(model((scenes.images - MEAN) / STD), scenes.labels)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return model.eval()


def ranked(model: nn.Module, images: Tensor, mask: Tensor) -> None:
    """The tables of IBA, CoIBA and NIB, of every block; the papers' choice is in bold."""
    for method in (IBA, CoIBA, NIB):
        explainer = method(model)
        candidates = default_candidates(explainer)
        paper = paper_choice(explainer, candidates)
        draws: dict[str, Any] = {} if method is NIB else DRAWS
        ranking = rank_layers(
            explainer, images, candidates=candidates, seed=0, mean=MEAN, std=STD, **draws
        )
        print(f"\n### {ranking.method}\n")
        print(ranking.table(paper))
        for name, maps in zip(ranking.names, ranking.maps, strict=True):
            sized = nn.functional.interpolate(maps, mask.shape[1:], mode="nearest")
            hits = pointing(sized, mask)
            error = hits.std(ddof=1) / len(hits) ** 0.5
            print(f"{name}: pointing {hits.mean():.2f} ± {error:.2f}", flush=True)


def paper_choice(explainer: Any, candidates: dict[str, Any]) -> str:
    """The candidate that the method takes by default."""
    chosen = explainer.layers if isinstance(explainer, CoIBA) else [explainer.layer]
    first = chosen[0][1] if isinstance(chosen[0], tuple) else chosen[0]
    modules = dict(explainer.forward_func.named_modules())
    for name, layers in candidates.items():
        layer = layers[0] if isinstance(layers, (list, tuple)) else layers
        if (modules[layer] if isinstance(layer, str) else layer) is first:
            return name
    raise LookupError(f"the default layer is no candidate: {list(candidates)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help="networks; default: all")
    parser.add_argument("--n", type=int, default=64, help="samples")
    parser.add_argument("--steps", type=int, default=1500, help="of the training")
    args = parser.parse_args()
    versions = f"torch {torch.__version__}, captum {captum.__version__}"
    print(f"python {' '.join(sys.argv)}; seed 0; {versions}", flush=True)
    scenes = zoo.scenes.labelled(args.n, seed=HELD_OUT)
    images = (scenes.images - MEAN) / STD
    tested = zoo.scenes.labelled(1000, seed=HELD_OUT, start=args.n)
    for name in args.names:
        started = time.time()
        model = trained(name, args.steps)
        with torch.no_grad():
            found = model((tested.images - MEAN) / STD).argmax(dim=1)
        right = (found == tested.labels).float().mean()
        print(f"\n## {name}: {right:.3f} of 1000 right, {time.time() - started:.0f} s", flush=True)
        ranked(model, images, scenes.mask)


if __name__ == "__main__":
    main()
