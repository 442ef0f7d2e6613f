"""Methods on held-out pairs of ``clip-scenes``: the tables of docs/methods/ca_m2ib.md, com2ib.md.

    python -m benchmarks.pairs run --out pairs-out
    python -m benchmarks.pairs table --out pairs-out

``run`` takes ten blocks of 64 pairs and fits each with a seed of its own; it writes one file of
per-pair scores per method and block and goes on where it stopped. ``table`` prints the blocks that
all methods have. Tuning took scenes of seed 77, references for the estimated priors are of seed
55, the report takes scenes of the zoo's held-out seed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerAttribution, Saliency
from torch import Tensor

from captum_ib import CAM2IB, M2IB, NIB, CoM2IB, DualEncoder, zoo
from captum_ib.baselines import GenericAttention
from captum_ib.metrics import ConfidenceDrop, ConfidenceIncrease, LocalizationIoU
from captum_ib.zoo.evaluate import HELD_OUT_SEED, auc

TUNING_SEED, REFERENCE_SEED = 77, 55
BLOCK = 64


@dataclass(frozen=True)
class Pairs:
    """Pairs with the truth about them."""

    pixels: Tensor
    ids: Tensor
    mask: Tensor
    truth: Tensor
    words: Tensor
    content: Tensor

    def part(self, start: int, stop: int) -> Pairs:
        return Pairs(*(value[start:stop] for value in vars(self).values()))


class Bench:
    """The model, its pairs, and their scores."""

    def __init__(self) -> None:
        self.zoo = zoo.load("clip-scenes")
        self.dual = DualEncoder.from_model(self.zoo.model)

    def pairs(self, n: int, seed: int) -> Pairs:
        scenes = zoo.scenes.captioned(n, seed=seed, size=self.zoo.image_size)
        ids, mask = self.zoo.tokenizer(scenes.captions, pad_to=self.zoo.tokenizer.max_length)
        words, content = torch.zeros_like(ids, dtype=torch.bool), torch.zeros_like(ids).bool()
        for row, marks in enumerate(scenes.content):  # the begin token comes before the words
            words[row, 1 : 1 + len(marks)] = True
            content[row, 1 : 1 + len(marks)] = torch.tensor(marks)
        pixels = self.zoo.normalize(scenes.images)
        return Pairs(pixels, ids, mask, scenes.mask, words, content)

    def blocks(self, image: int, text: int) -> list[str]:
        return [f"vision_model.encoder.layers.{image}", f"text_model.encoder.layers.{text}"]

    def scores(self, pairs: Pairs, image: Tensor, text: Tensor) -> dict[str, np.ndarray]:
        """Per-pair scores of one method's maps; a constant map has none (NaN)."""
        maps = LayerAttribution.interpolate(image, self.zoo.image_size, "bilinear")
        side = {
            "image": (pairs.pixels.numpy(), pairs.ids.numpy(), maps.numpy()),
            "text": (pairs.ids.numpy(), pairs.pixels.numpy(), text.numpy()),
        }
        tokenizer = self.zoo.tokenizer
        special = [tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id]
        found: dict[str, np.ndarray] = {}
        for modality, (x, y, a) in side.items():
            options = {} if modality == "image" else {"special_tokens": special, "blank_token": 0}
            for name, metric in (("drop", ConfidenceDrop), ("increase", ConfidenceIncrease)):
                judge = metric(modality=modality, undefined="nan", **options)
                found[f"{modality} {name}"] = np.array(judge(self.dual, x, y, a_batch=a))
        truth = pairs.truth[:, None].float().numpy()
        iou = LocalizationIoU(undefined="nan")
        x, y, a = side["image"]
        found["IoU"] = np.array(iou(None, x, y, a_batch=a, s_batch=truth))
        peak = maps.flatten(1).argmax(1, keepdim=True)
        found["pointing"] = pairs.truth.flatten(1).gather(1, peak)[:, 0].float().numpy()
        found.update(word_scores(pairs, text))
        return found


def word_scores(pairs: Pairs, text: Tensor) -> dict[str, np.ndarray]:
    """Share of positive attribution on content words, and their AUC above function words."""
    positive = text.clamp_min(0) * pairs.words
    share = (positive * pairs.content).sum(1) / positive.sum(1)
    areas = [
        auc(row[words], content[words]).item()
        for row, words, content in zip(text, pairs.words, pairs.content, strict=True)
    ]
    return {"share": share.double().numpy(), "AUC": np.array(areas)}


Explain = Callable[[Pairs, int], tuple[Tensor, Tensor]]


def methods(bench: Bench) -> dict[str, Explain]:
    """The rows of the table: name → (pairs, seed) → maps of image and text."""
    dual = bench.dual
    papers, best, nib = bench.blocks(6, 4), bench.blocks(0, 5), bench.blocks(4, 0)
    references = bench.pairs(256, REFERENCE_SEED)
    baselines = (references.pixels, references.ids, references.mask)

    def fitted(method, **settings) -> Explain:
        def run(pairs: Pairs, seed: int) -> tuple[Tensor, Tensor]:
            return method.attribute(
                (pairs.pixels, pairs.ids),
                additional_forward_args=pairs.mask,
                seed=seed,
                **settings,
            )

        return run

    def fixed(method) -> Explain:
        return lambda pairs, seed: method.attribute(
            (pairs.pixels, pairs.ids), additional_forward_args=pairs.mask
        )

    return {
        "Saliency": lambda pairs, seed: saliency(dual, pairs),
        "GenericAttention": fixed(GenericAttention(dual)),
        "NIB, papers' layer": fixed(NIB(dual, papers)),
        "NIB, best layer": fixed(NIB(dual, nib)),
        "M2IB, papers' layer": fitted(M2IB(dual, papers)),
        "CA-M2IB, papers' layer": fitted(CAM2IB(dual, papers)),
        "CA-M2IB, papers' layer, eq. 5 on text": fitted(
            CAM2IB(dual, papers), residual=(False, True), attention_lr=(1e-3, 0.1)
        ),
        "M2IB, best layer": fitted(M2IB(dual, best)),
        "CA-M2IB, best layer": fitted(CAM2IB(dual, best)),
        "M2IB, estimated, block 0": fitted(
            M2IB(dual, bench.blocks(0, 0)), prior="estimated", baselines=baselines
        ),
        "CoM2IB": fitted(CoM2IB(dual), baselines=baselines),
        "CoM2IB, guided": fitted(CoM2IB(dual), baselines=baselines, guidance=0.25),
    }


PAIRED = (
    ("CA-M2IB, papers' layer", "M2IB, papers' layer"),
    ("CA-M2IB, papers' layer, eq. 5 on text", "M2IB, papers' layer"),
    ("CA-M2IB, best layer", "M2IB, best layer"),
    ("CoM2IB", "GenericAttention"),
    ("CoM2IB", "M2IB, estimated, block 0"),
    ("CoM2IB, guided", "GenericAttention"),
    ("CoM2IB, guided", "CoM2IB"),
)


def saliency(dual: DualEncoder, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Gradient magnitude of the cosine: of the pixels, and of the words' embeddings."""
    extra = (pairs.ids, pairs.mask)
    pixels = pairs.pixels.clone().requires_grad_()
    image = Saliency(dual).attribute(pixels, additional_forward_args=extra).sum(1, keepdim=True)
    table = dual.model.text_model.embeddings.token_embedding
    seen: list[Tensor] = []
    handle = table.register_forward_hook(
        lambda module, args, output: seen.append(output.detach().requires_grad_()) or seen[0]
    )
    try:
        cosine = dual(pairs.pixels, pairs.ids, pairs.mask)
    finally:
        handle.remove()
    (gradient,) = torch.autograd.grad(cosine.sum(), seen[0])
    return image.detach(), gradient.norm(dim=-1) * pairs.words


def file_of(out: Path, name: str, block: int) -> Path:
    return out / f"{''.join(c if c.isalnum() else '_' for c in name)}-{block}.npz"


def run(out: Path, blocks: int, seconds: float, only: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    bench = Bench()
    pairs = bench.pairs(BLOCK * blocks, HELD_OUT_SEED)
    rows = {name: row for name, row in methods(bench).items() if not only or name in only}
    start = time.time()
    for block in range(blocks):
        some = pairs.part(BLOCK * block, BLOCK * (block + 1))
        for name, explain in rows.items():
            path = file_of(out, name, block)
            begin = time.time()
            if begin - start > seconds:
                return
            if not path.exists():
                np.savez(path, **bench.scores(some, *explain(some, block)))
                print(f"{name}, block {block}: {time.time() - begin:.0f} s", flush=True)


def load(out: Path, names: list[str]) -> tuple[dict[str, dict[str, np.ndarray]], int]:
    """Scores per pair of each method that has any, on the blocks that all of these have."""
    found = [name for name in names if file_of(out, name, 0).exists()]
    blocks = 0
    while found and all(file_of(out, name, blocks).exists() for name in found):
        blocks += 1
    rows = {}
    for name in found:
        parts = [dict(np.load(file_of(out, name, block))) for block in range(blocks)]
        rows[name] = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return rows, blocks


def mean_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and standard error over the pairs that have a score."""
    values = values[~np.isnan(values)]
    return float(values.mean()), float(values.std(ddof=1) / len(values) ** 0.5)


DIGITS = {"IoU": 3, "pointing": 3, "share": 3, "AUC": 3}


def table(out: Path) -> None:
    rows, blocks = load(out, list(methods(Bench())))
    if not blocks:
        raise SystemExit(f"no scores in {out}; run `python -m benchmarks.pairs run` first")
    columns = list(next(iter(rows.values())))
    print(f"{blocks} blocks of {BLOCK} pairs, seeds 0 to {blocks - 1}, mean ± standard error\n")
    print("| | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for name, scores in rows.items():
        cells = [_cell(scores[column], DIGITS.get(column, 1)) for column in columns]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\nPaired differences:\n")
    print("| | " + " | ".join(columns) + " |\n|---" + "|---" * len(columns) + "|")
    for one, other in PAIRED:
        if one in rows and other in rows:
            cells = [
                _cell(rows[one][column] - rows[other][column], DIGITS.get(column, 1), True)
                for column in columns
            ]
            print(f"| {one} − {other} | " + " | ".join(cells) + " |")


def _cell(values: np.ndarray, digits: int, signed: bool = False) -> str:
    mean, error = mean_error(values)
    sign = "+" if signed else ""
    return f"{mean:{sign}.{digits}f} ± {error:.{digits}f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=("run", "table"))
    parser.add_argument("--out", type=Path, default=Path("pairs-out"))
    parser.add_argument("--blocks", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin nothing later")
    parser.add_argument("--only", nargs="*", default=[], help="names of rows")
    given = parser.parse_args()
    if given.command == "run":
        run(given.out, given.blocks, given.seconds, given.only)
    table(given.out)


if __name__ == "__main__":
    main()
