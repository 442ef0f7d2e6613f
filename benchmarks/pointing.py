"""Where the maps point, block by block, on held-out scenes of the zoo.

    python -m benchmarks.pointing clip-scenes|vit-scenes [--scenes 300] [--seed 0]

Pointing game: the share of scenes whose map, upsampled bilinearly to the image, has its maximum on
an object that the caption names (``clip-scenes``) or on the object that makes the class
(``vit-scenes``). Text: the mean share of a caption's positive attribution that lies on content
words, begin and end tokens left out. ± is the standard error over scenes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from importlib.metadata import version

import torch
from captum.attr import LayerAttribution, Saliency
from torch import Tensor

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder, zoo
from captum_ib.baselines import GenericAttention
from captum_ib.zoo.evaluate import HELD_OUT_SEED

BATCH = 50


def hits(attribution: Tensor, mask: Tensor) -> Tensor:
    """Whether each map's maximum lies on its mask, ``(N,)``."""
    size = (mask.shape[-2], mask.shape[-1])
    if attribution.shape[-2:] != size:
        attribution = LayerAttribution.interpolate(attribution, size, "bilinear")
    return mask.flatten(1).gather(1, attribution.flatten(1).argmax(1, keepdim=True))[:, 0].float()


def content_share(attribution: Tensor, content: Tensor, words: Tensor) -> Tensor:
    """Share of the positive attribution on content words, ``(N,)``; 0 where none is positive."""
    positive = attribution.clamp_min(0) * words
    return (positive * content).sum(1) / positive.sum(1).clamp_min(1e-12)


def mean(values: list[Tensor]) -> str:
    """Mean ± standard error."""
    every = torch.cat(values)
    return f"{every.mean():.3f} ± {every.std() / len(every) ** 0.5:.3f}"


def random_map(n: int, grid: int, seed: int) -> Tensor:
    return torch.rand(n, 1, grid, grid, generator=torch.Generator().manual_seed(seed))


def clip_table(count: int, seed: int) -> None:
    loaded = zoo.load("clip-scenes")
    dual = DualEncoder.from_model(loaded.model)
    batches = []
    for start in range(0, count, BATCH):
        n = min(BATCH, count - start)
        scenes = zoo.scenes.captioned(n, seed=HELD_OUT_SEED, start=start, size=loaded.image_size[0])
        ids, mask = loaded.tokenizer(scenes.captions)
        content, words = torch.zeros(ids.shape), torch.zeros(ids.shape)
        for row, flags in enumerate(scenes.content):
            words[row, 1 : 1 + len(flags)] = 1
            content[row, 1 : 1 + len(flags)] = torch.as_tensor(flags).float()
        batches.append((loaded.normalize(scenes.images), ids, mask, scenes.mask, content, words))
    depth = {name: len(blocks) for name, blocks in dual.layers.items()}

    def row(name: str, explain: Callable[[Tensor, Tensor, Tensor], tuple]) -> None:
        image, text = [], []
        for pixels, ids, mask, where, content, words in batches:
            one, other = explain(pixels, ids, mask)
            image.append(hits(one, where))
            if other is not None:
                text.append(content_share(other, content, words))
        print(f"| {name} | {mean(image)} | {mean(text) if text else '–'} |", flush=True)

    print("| method, block (image / text) | pointing game | text on content words |\n|---|---|---|")
    row("random", lambda p, i, m: (random_map(len(p), 7, seed), torch.rand(i.shape)))
    saliency = Saliency(lambda p, i, m: dual(p, i, m))
    row("Saliency", lambda p, i, m: (saliency.attribute(p, additional_forward_args=(i, m))
                                     .abs().sum(1, keepdim=True), None))  # fmt: skip
    generic = GenericAttention(dual)
    row("GenericAttention, all blocks",
        lambda p, i, m: generic.attribute((p, i), additional_forward_args=m))  # fmt: skip
    for index in range(depth["image"]):
        other = min(index, depth["text"] - 1)
        layers = [dual.tower("image").blocks[index][1], dual.tower("text").blocks[other][1]]
        m2ib, nib = M2IB(dual, layers), NIB(dual, layers)
        for name, method, settings in (
            ("M2IB", m2ib, {"seed": seed}),
            ("M2IB, estimated prior", m2ib, {"seed": seed, "prior": "estimated"}),
            ("NIB", nib, {}),
        ):
            row(
                f"{name}, {index} / {other}",
                lambda p, i, m, a=method, s=settings: a.attribute(
                    (p, i), additional_forward_args=m, **s
                ),
            )


def vit_table(count: int, seed: int) -> None:
    loaded = zoo.load("vit-scenes")
    model = loaded.model
    batches = []
    for start in range(0, count, BATCH):
        n = min(BATCH, count - start)
        scenes = zoo.scenes.labelled(n, seed=HELD_OUT_SEED, start=start, size=loaded.image_size[0])
        batches.append((loaded.normalize(scenes.images), scenes.labels, scenes.mask))

    def row(name: str, explain: Callable[[Tensor, Tensor], Tensor]) -> None:
        found = [hits(explain(x, target), where) for x, target, where in batches]
        print(f"| {name} | {mean(found)} |", flush=True)

    print("| method | pointing game |\n|---|---|")
    row("random", lambda x, t: random_map(len(x), 8, seed))
    saliency = Saliency(model)
    row("Saliency", lambda x, t: saliency.attribute(x, target=t).sum(1, keepdim=True))
    generic = GenericAttention(model)
    row("GenericAttention, all blocks", lambda x, t: generic.attribute(x, target=t))
    depth = len(model.blocks)
    for index in range(depth):
        norms = [f"blocks.{i}.norm1" for i in range(index, depth)]
        for name, method, settings in (
            (f"CoIBA, blocks {index}…{depth - 1}", CoIBA(model, norms), {"seed": seed}),
            (f"IBA, block {index}", IBA(model, f"blocks.{index}"), {"seed": seed}),
            (f"NIB, block {index}", NIB(model, f"blocks.{index}"), {}),
        ):
            row(name, lambda x, t, a=method, s=settings: a.attribute(x, target=t, **s))


def main() -> None:
    """Print the table of one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=["clip-scenes", "vit-scenes"])
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "captum"))
    print(f"{arguments.model}, {arguments.scenes} scenes, seed {arguments.seed}, {packages}\n")
    torch.manual_seed(arguments.seed)
    {"clip-scenes": clip_table, "vit-scenes": vit_table}[arguments.model](
        arguments.scenes, arguments.seed
    )


if __name__ == "__main__":
    main()
