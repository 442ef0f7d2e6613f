"""Insertion + Deletion on 64 images, over the time of their model forwards alone (at most 1.2).

The metric's time holds everything: ranking, blurring, composing every step's images, softmax, the
area, and the way through Quantus. The denominator is the same number of forward passes,
2 · (steps + 1), of the same batches through the model and nothing else. On CPU both are CPU time of
this process (so that other load on the machine does not count), on CUDA wall time.

    python benchmarks/insertion_deletion.py --model vit_tiny_patch16_224
"""

from __future__ import annotations

import argparse
import json
import platform
import time

import numpy as np
import timm
import torch

from captum_ib.metrics import Deletion, Insertion


def measure(run, device: str) -> float:
    """Seconds of one run."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    started = clock()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - started


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_tiny_patch16_224", help="a timm model")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    rng = np.random.default_rng(args.seed)
    model = timm.create_model(args.model, pretrained=False).eval().to(args.device)
    _, height, width = model.default_cfg["input_size"]
    x = rng.random((args.images, 3, height, width), dtype=np.float32)
    maps = rng.random((args.images, 1, height, width), dtype=np.float32)
    y = rng.integers(0, model.num_classes, args.images)
    batches = torch.from_numpy(x).to(args.device).split(args.batch_size)
    settings = {"steps": args.steps}
    metrics = [Insertion(**settings), Deletion(**settings)]

    def forwards() -> None:
        with torch.no_grad():
            for _ in range(2 * (args.steps + 1)):
                for batch in batches:
                    model(batch)

    def scores() -> None:
        for metric in metrics:
            metric(model, x, y, maps, device=args.device, batch_size=args.batch_size)

    with torch.no_grad():
        model(batches[0])  # the first pass allocates
    # In turns, so that whatever else the machine does meets both.
    pairs = [
        (measure(scores, args.device), measure(forwards, args.device)) for _ in range(args.repeats)
    ]
    ratios = sorted(metric / alone for metric, alone in pairs)
    print(
        json.dumps(
            {
                **vars(args),
                "metric_s": [round(metric, 3) for metric, _ in pairs],
                "forwards_s": [round(alone, 3) for _, alone in pairs],
                "ratio": round(float(np.median(ratios)), 3),
                "ratio_range": [round(ratios[0], 3), round(ratios[-1], 3)],
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
