"""RISE's throughput over the model's own: forward passes alone / the same passes inside RISE.

    python -m benchmarks.rise --model vit_base_patch16_224

At least 0.9 is asked for. Both run the same number of rows in batches of the same size; RISE also
draws and blows up its masks, lays them on, and gathers the map. In turns; the ratio is the median
over the repeats. On CPU both are CPU time of this process (so that other load on the machine does
not count), on CUDA wall time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import timm
import torch

from captum_ib import RISE


def measure(run: Callable[[], object], device: str) -> float:
    """Seconds of one run."""
    clock = time.process_time if device == "cpu" else time.perf_counter
    if device != "cpu":
        torch.cuda.synchronize()
    started = clock()
    run()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - started


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vit_base_patch16_224", help="a timm model")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--masks", type=int, default=64)
    parser.add_argument("--masks-per-pass", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    model = timm.create_model(args.model, pretrained=False).eval().to(args.device)
    x = torch.rand(args.images, *model.default_cfg["input_size"], device=args.device)
    rows = x.repeat(args.masks_per_pass, 1, 1, 1)
    method = RISE(model)

    def forwards() -> None:
        with torch.no_grad():
            for _ in range(args.masks // args.masks_per_pass):
                model(rows)

    def explain() -> None:
        method.attribute(
            x,
            target=0,
            n_masks=args.masks,
            perturbations_per_eval=args.masks_per_pass,
            seed=args.seed,
        )

    forwards()  # the first passes allocate
    explain()
    pairs = [
        (measure(forwards, args.device), measure(explain, args.device)) for _ in range(args.repeats)
    ]
    print(
        json.dumps(
            {
                **vars(args),
                "forwards_s": [round(alone, 3) for alone, _ in pairs],
                "rise_s": [round(whole, 3) for _, whole in pairs],
                "throughput_ratio": round(statistics.median(a / w for a, w in pairs), 3),
                "torch": torch.__version__,
                "timm": timm.__version__,
                "machine": platform.processor() or platform.machine(),
            }
        )
    )


if __name__ == "__main__":
    main()
