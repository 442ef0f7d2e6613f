"""The numbers of docs/methods/bits_curve.md: fits that converge against ten steps of Adam.

python -m benchmarks.curves vit-scenes --n 200
python -m benchmarks.curves clip-scenes --n 100
python -m benchmarks.curves references

CoIBA on classes, CoM2IB on pairs (the image's map), both at their defaults but for the fit, with 64
other scenes as references. All on held-out scenes; ± is one standard error, of a difference that of
the paired difference.
"""

from __future__ import annotations

import argparse
import copy
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import captum
import numpy as np
import torch
from torch import Tensor

from benchmarks.layers import HELD_OUT, pointing
from captum_ib import CoIBA, CoM2IB, DualEncoder, zoo
from captum_ib.bottleneck import fit, to_bits
from captum_ib.curve import BitsCurve
from captum_ib.curve.solver import Criterion, Walk
from captum_ib.metrics import InsertionMinusDeletion


@dataclass
class Subject:
    """Samples, the method that explains them, and how its arguments are given."""

    method: Any
    inputs: Any
    arguments: dict[str, Any]
    mask: Tensor
    size: tuple[int, int]
    insdel: Callable[[Tensor], np.ndarray] | None
    pair: bool

    def image(self, maps: Any) -> Tensor:
        return (maps[0] if self.pair else maps).detach()


def vit(n: int, start: int) -> Subject:
    loaded = zoo.load("vit-scenes")
    scenes = zoo.scenes.labelled(n, seed=HELD_OUT, start=start)
    images = loaded.normalize(scenes.images)

    def insdel(maps: Tensor) -> np.ndarray:
        metric = InsertionMinusDeletion(mean=loaded.mean, std=loaded.std, undefined="nan")
        sized = torch.nn.functional.interpolate(maps, images.shape[2:], mode="bilinear")
        scores = metric(
            loaded.model,
            images.numpy(),
            scenes.labels.numpy(),
            a_batch=sized.numpy(),
            softmax=True,
            device="cpu",
            batch_size=len(images),
        )
        return np.asarray(scores, dtype=float)

    references = loaded.normalize(zoo.scenes.labelled(64, seed=7).images)
    arguments = {"target": scenes.labels, "baselines": references}
    size = tuple(images.shape[2:])
    return Subject(CoIBA(loaded.model), images, arguments, scenes.mask, size, insdel, False)


def clip(n: int, start: int) -> Subject:
    loaded = zoo.load("clip-scenes")
    scenes = zoo.scenes.captioned(n, seed=HELD_OUT, start=start)
    ids, attention = loaded.tokenizer(scenes.captions)
    images = loaded.normalize(scenes.images)
    method = CoM2IB(DualEncoder.from_model(loaded.model))
    others = zoo.scenes.captioned(64, seed=7)
    tokens, mask = loaded.tokenizer(others.captions)
    references = (loaded.normalize(others.images), tokens, mask)
    arguments = {"additional_forward_args": attention, "baselines": references}
    size = tuple(images.shape[2:])
    return Subject(method, (images, ids), arguments, scenes.mask, size, None, True)


class Adam:
    """The default fit, and what its λ keeps on fresh draws."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []
        self.bits: list[Tensor] = []

    def __call__(self, problem: Any, noise: Any, fitting: Any, tick: Any) -> Any:
        found = fit(problem, noise, fitting, False, tick)
        with torch.no_grad():
            self.bits.append(to_bits(problem.information()[0]).flatten(1).sum(dim=1))
        alpha = problem.damping.alphas[0].data.clone()
        rest = torch.sigmoid(-alpha).clamp(1e-4, 1.0)
        walk = Walk(problem, noise.branch(1), fitting, Criterion(), None)
        clean = walk.score(walk.clean)[0]
        score = walk.scores(rest, walk.common).mean(dim=0)
        none = walk.scores(torch.ones_like(rest), walk.common).mean(dim=0)
        floor = none if walk.classes is None else torch.zeros_like(none)
        self.kept.append((score - floor) / (clean - floor))
        problem.damping.alphas[0].data.copy_(alpha)
        return found


def adam(subject: Subject, seed: int = 0, **options: Any) -> dict[str, Any]:
    method, watched = copy.copy(subject.method), Adam()
    method.solve = watched
    maps = method.attribute(subject.inputs, seed=seed, **subject.arguments, **options)
    return {"map": subject.image(maps), "bits": watched.bits[0], "kept": watched.kept[0]}


def curve(subject: Subject, seed: int = 0, **options: Any) -> dict[str, Any]:
    maps, found = BitsCurve(subject.method).attribute(
        subject.inputs, seed=seed, return_curve=True, **subject.arguments, **options
    )
    one = found[0] if subject.pair else found
    return {
        "map": subject.image(maps),
        "bits": one.bits_at_keep,
        "kept": one.kept_at_keep,
        "stays": one.stays,
        "competing": one.competing.double(),
    }


def fits(pair: bool) -> dict[str, Callable[..., dict[str, Any]]]:
    """What is compared, by its name in the table."""
    beta = 0.03 if pair else 1.0
    return {
        "10 steps of Adam, lr 1 (default)": adam,
        "150 steps of Adam, lr 0.2": lambda s, seed=0: adam(s, seed, n_steps=150, lr=0.2),
        f"converged, β = {beta:g}": lambda s, seed=0: curve(s, seed, betas=[beta], keep=None),
        "keep 0.99": lambda s, seed=0: curve(s, seed, keep=0.99),
        "keep 0.9": lambda s, seed=0: curve(s, seed, keep=0.9),
        "keep 0.5": lambda s, seed=0: curve(s, seed, keep=0.5),
    }


def correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = (x.flatten(1).double() - x.flatten(1).double().mean(1, keepdim=True) for x in (a, b))
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-12)


def measured(make: Callable[[int, int], Subject], n: int, batch: int, run: Any, seed: int) -> Any:
    """All values of one fit, over the samples in batches."""
    rows: dict[str, list[Tensor]] = {}
    started = time.perf_counter()
    spent = 0.0
    for start in range(0, n, batch):
        subject = make(min(batch, n - start), start)
        started = time.perf_counter()
        found = run(subject, seed=seed)
        spent += time.perf_counter() - started
        sized = torch.nn.functional.interpolate(found["map"], subject.size, mode="bilinear")
        found["pointing"] = torch.from_numpy(pointing(sized, subject.mask))
        if subject.insdel is not None and seed == 0:
            found["ΔInsDel"] = torch.from_numpy(subject.insdel(found["map"]))
        for name, values in found.items():
            rows.setdefault(name, []).append(values)
    return {name: torch.cat(values) for name, values in rows.items()}, spent / n


def told(values: Tensor) -> str:
    known = values[~values.isnan()]
    return f"{known.mean():.3g} ± {known.std() / len(known) ** 0.5:.2g}"


def references() -> None:
    """CoIBA at the blocks' outputs from 2 on, 8 scenes, without and with references."""
    subject = vit(8, 0)
    others = subject.arguments.pop("baselines")
    method = CoIBA(subject.method.forward_func, [f"blocks.{number}" for number in range(2, 8)])
    for name, given in (("none", None), ("64 scenes", others)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            _, found = BitsCurve(method).attribute(
                subject.inputs, given, seed=0, return_curve=True, **subject.arguments
            )
        bits = ", ".join(f"{one:.1f}" for one in found.bits_at_keep)
        print(f"references: {name}; noise keeps {found.floor.mean():.3f}; bits at 0.9: {bits}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subject", choices=["vit-scenes", "clip-scenes", "references"])
    parser.add_argument("--n", type=int, default=200, help="samples")
    parser.add_argument("--seeds", type=int, default=32, help="samples fitted with a second seed")
    parser.add_argument("--no-references", action="store_true", help="noise of the sample itself")
    parser.add_argument("--rows", nargs="*", default=[], help="fits beside the default; all")
    parser.add_argument("--batch", type=int, default=20, help="samples at once")
    args = parser.parse_args()
    versions = f"torch {torch.__version__}, captum {captum.__version__}"
    print(f"python {' '.join(sys.argv)}; seeds 0 and 1; {versions}\n", flush=True)
    if args.subject == "references":
        return references()
    chosen = vit if args.subject == "vit-scenes" else clip

    def make(n: int, start: int) -> Subject:
        subject = chosen(n, start)
        if args.no_references:
            subject.arguments["baselines"] = None
        return subject

    columns = ("ΔInsDel", "pointing", "bits", "kept", "stays", "competing")
    print(f"| fit | {' | '.join(columns)} | r of two seeds: median, ≥ 0.99, worst | s per map |")
    print("|---" * (len(columns) + 3) + "|")
    first: dict[str, Tensor] = {}
    for name, run in fits(args.subject == "clip-scenes").items():
        if first and args.rows and name not in args.rows:
            continue
        found, seconds = measured(make, args.n, args.batch, run, 0)
        again, _ = measured(make, args.seeds, args.batch, run, 1)
        few = {key: values[: args.seeds] for key, values in found.items()}
        live = (few["bits"] > 5) & (again["bits"] > 5)
        r = correlation(few["map"], again["map"])[live]
        agreed = (
            f"{r.median():.4f}, {(r >= 0.99).double().mean():.0%} of {len(r)}, {r.min():.2f}"
            if len(r)
            else "none has 5 bits"
        )
        cells = []
        for column in columns:
            cell = told(found[column].double()) if column in found else "–"
            if first and column in ("ΔInsDel", "pointing") and column in found:
                cell += f" ({told(found[column].double() - first[column].double())})"
            cells.append(cell)
        first = first or found
        print(f"| {name} | {' | '.join(cells)} | {agreed} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
