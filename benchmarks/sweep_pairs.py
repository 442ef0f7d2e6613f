"""Sweeps of β and of the layer for M2IB, CA-M2IB and CoM2IB on the tuning pairs, with a plot.

python -m benchmarks.sweep_pairs --pairs 64 --out docs/images/sweep-pairs.png --json sweep.json

The scenes are those that tuning used (seed 77), never the report's.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.pairs import TUNING_SEED, Bench, Pairs
from captum_ib import CAM2IB, M2IB, CoM2IB
from captum_ib.visualization import save

BETAS = (0.01, 0.03, 0.1, 0.3, 1.0)
METRICS = ("image drop", "image increase", "IoU", "pointing", "text drop", "share")
Sweep = dict[str, dict[float, dict[str, float]]]


def scores(bench: Bench, pairs: Pairs, method, **settings) -> dict[str, float]:
    maps = method.attribute(
        (pairs.pixels, pairs.ids), additional_forward_args=pairs.mask, seed=0, **settings
    )
    return {name: float(np.nanmean(v)) for name, v in bench.scores(pairs, *maps).items()}


def sweep_beta(bench: Bench, pairs: Pairs) -> Sweep:
    papers = bench.blocks(6, 4)
    methods = {
        "M2IB": M2IB(bench.dual, papers),
        "CA-M2IB": CAM2IB(bench.dual, papers),
        "CoM2IB": CoM2IB(bench.dual),
    }
    return {
        name: {beta: scores(bench, pairs, method, beta=beta) for beta in BETAS}
        for name, method in methods.items()
    }


def sweep_layer(bench: Bench, pairs: Pairs) -> Sweep:
    """Block b of 8 of the image tower; in the text tower, with 6 blocks, up to block 5."""
    depth = len(bench.dual.layers["image"])
    last = len(bench.dual.layers["text"]) - 1
    return {
        name: {
            block: scores(bench, pairs, method(bench.dual, bench.blocks(block, min(block, last))))
            for block in range(depth)
        }
        for name, method in (("M2IB", M2IB), ("CA-M2IB", CAM2IB))
    }


def plot(sweeps: dict[str, Sweep]) -> Figure:
    figure = Figure(figsize=(3 * len(METRICS), 5.6), layout="constrained")
    axes = figure.subplots(len(sweeps), len(METRICS))
    for row, (label, sweep) in zip(axes, sweeps.items(), strict=True):
        for ax, metric in zip(row, METRICS, strict=True):
            for name, points in sweep.items():
                values = [entry[metric] for entry in points.values()]
                ax.plot([float(x) for x in points], values, marker="o", ms=3, label=name)
            ax.set_xlabel(label)
            ax.set_title(metric + (" ↓" if "drop" in metric else " ↑"), fontsize=10)
            if label == "β":
                ax.set_xscale("log")
        row[0].legend(fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--out", type=Path, default=Path("sweep-pairs.png"))
    parser.add_argument("--json", type=Path, help="also write the numbers")
    given = parser.parse_args()
    bench = Bench()
    pairs = bench.pairs(given.pairs, TUNING_SEED)
    sweeps = {"β": sweep_beta(bench, pairs), "block": sweep_layer(bench, pairs)}
    save(plot(sweeps), given.out, dpi=110)
    if given.json:
        given.json.write_text(json.dumps(sweeps, indent=1))


if __name__ == "__main__":
    main()
