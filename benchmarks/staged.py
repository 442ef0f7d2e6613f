"""Which stage to explain: a small ResNet, ConvNeXt and Swin, trained here on the zoo's scenes.

python -m benchmarks.staged --n 64

No package carries a network whose evidence is known, so it learns the shapes of `zoo.scenes` first
(some minutes on one core). Then every block is ranked by ΔInsDel, as in docs/layers.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import captum
import torch
from timm.models.convnext import ConvNeXt
from timm.models.resnet import BasicBlock, ResNet
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from benchmarks.layers import DRAWS, HELD_OUT, pointing
from captum_ib import IBA, NIB, CoIBA, zoo
from captum_ib.metrics import default_candidates, rank_layers
from captum_ib.zoo.learners import most_objects, patch_targets

CLASSES = 7
MEAN, STD = 0.5, 0.25
PATCH = 8
"""Pixels of a scene per position of the stage that is told what its patches show."""


@dataclass(frozen=True)
class Network:
    """A network and how it learns.

    Attributes:
        build: makes it, with random weights.
        told: a stage whose positions a linear head tells, while it learns, which colour and shape
            they show, as the zoo's transformers are; without it ConvNeXt and Swin stay at chance.
        axis: of the channels of what that stage gives.
        lr: highest learning rate of AdamW, one cycle.
        steps: batches of 48 scenes.
    """

    build: Callable[[], nn.Module]
    told: str = ""
    axis: int = 1
    lr: float = 2e-3
    steps: int = 1500


NETWORKS: dict[str, Network] = {
    "ResNet": Network(
        lambda: ResNet(BasicBlock, [1, 1, 2, 1], num_classes=CLASSES, channels=(24, 48, 96, 128))
    ),
    "ConvNeXt": Network(
        lambda: ConvNeXt(
            num_classes=CLASSES,
            depths=(1, 1, 2, 1),
            dims=(24, 48, 96, 128),
            patch_size=2,
            ls_init_value=None,  # at 1e-6 a net of five blocks does not start to learn
        ),
        told="stages.1",
        lr=4e-3,
        steps=2500,
    ),
    "Swin": Network(
        lambda: SwinTransformer(
            img_size=64,
            patch_size=4,
            num_classes=CLASSES,
            embed_dim=48,
            depths=(2, 4),
            num_heads=(3, 6),
            window_size=4,
            drop_path_rate=0.0,
        ),
        told="layers.1",
        axis=3,
        steps=2500,
    ),
}


def trained(network: Network, batch: int = 48) -> nn.Module:
    """A network after its batches of scenes, all new to it; seed 0."""
    torch.manual_seed(0)
    model = network.build()
    patches = Patches(model, network) if network.told else None
    parameters = [*model.parameters(), *(patches.parameters() if patches else ())]
    optimizer = torch.optim.AdamW(parameters, lr=network.lr, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, network.lr, total_steps=network.steps, pct_start=0.15 if patches else 0.3
    )
    for step in range(network.steps):
        done = step / network.steps
        most = most_objects(done) if patches else min(4, 1 + 6 * step // network.steps)
        scenes = zoo.scenes.labelled(batch, seed=0, start=step * batch, objects=(1, most))
        loss = nn.functional.cross_entropy(model((scenes.images - MEAN) / STD), scenes.labels)
        if patches is not None:
            loss = loss + (1 - done) * patches.loss(scenes)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    if patches is not None:
        patches.hook.remove()
    return model.eval()


class Patches(nn.Module):
    """What each position of a stage shows, as the zoo's learners ask it."""

    def __init__(self, model: nn.Module, network: Network) -> None:
        super().__init__()
        self.axis, self._seen = network.axis, torch.empty(0)
        self.hook = model.get_submodule(network.told).register_forward_hook(self._keep)
        with torch.no_grad():
            model(torch.zeros(1, 3, 64, 64))
        self.kinds = len(zoo.scenes.COLOURS) + 1, len(zoo.scenes.SHAPES) + 1
        self.what = nn.Linear(self._seen.shape[self.axis], sum(self.kinds))

    def _keep(self, module: nn.Module, given: Any, output: Tensor) -> None:
        self._seen = output

    def loss(self, scenes: Any) -> Tensor:
        """Cross-entropy of colour and shape, of the batch that was last seen."""
        tokens = self._seen.movedim(self.axis, -1).flatten(1, 2)
        logits = self.what(tokens).split(self.kinds, dim=-1)
        targets = patch_targets(scenes, PATCH)
        pairs = zip(logits, targets, strict=True)
        return torch.stack(
            [nn.functional.cross_entropy(a.flatten(0, 1), b.flatten()) for a, b in pairs]
        ).sum()


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
    args = parser.parse_args()
    versions = f"torch {torch.__version__}, captum {captum.__version__}"
    print(f"python {' '.join(sys.argv)}; seed 0; {versions}", flush=True)
    scenes = zoo.scenes.labelled(args.n, seed=HELD_OUT)
    images = (scenes.images - MEAN) / STD
    tested = zoo.scenes.labelled(1000, seed=HELD_OUT, start=args.n)
    for name in args.names:
        started = time.time()
        model = trained(NETWORKS[name])
        with torch.no_grad():
            found = model((tested.images - MEAN) / STD).argmax(dim=1)
        right = (found == tested.labels).float().mean()
        print(f"\n## {name}: {right:.3f} of 1000 right, {time.time() - started:.0f} s", flush=True)
        ranked(model, images, scenes.mask)


if __name__ == "__main__":
    main()
