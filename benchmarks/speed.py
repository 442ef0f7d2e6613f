"""The table of speed ratios, plain loops against the library, interleaved in one run.

    python -m benchmarks.speed [--rows m2ib nib coiba iba overhead statistics memory import]
        [--repeats 3] [--threads 2]

Every ratio is the median over the repeats of (plain loop's time / our time), both measured one
after the other. Models are built from configurations with random weights (seed 0): speed does not
depend on them. Memory is the peak resident set of a process of its own.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from benchmarks.plain import bottleneck_loop, path_loop, statistics_loop
from captum_ib import IBA, M2IB, NIB, ActivationStatistics, CoIBA, DualEncoder

AUTHORS = {"n_steps": 10, "n_samples": 10, "antithetic": False, "seed": 0}
COIBA_LAYERS = [f"blocks.{index}.norm1" for index in range(4, 12)]


def seconds(run: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ratio(plain: Callable[[], object], ours: Callable[[], object], repeats: int) -> list[float]:
    """plain / ours, pair by pair, after one call of ours to warm up the allocator and the model."""
    ours()
    return [seconds(plain) / seconds(ours) for _ in range(repeats)]


def both(
    plain: Callable[[], object], ours: Callable[..., object], repeats: int
) -> tuple[list[float], list[float]]:
    """plain / ours at the authors' settings, and plain / ours at our defaults."""
    ours(seed=0, n_steps=2)
    equal, default = [], []
    for _ in range(repeats):
        loop = seconds(plain)
        equal.append(loop / seconds(lambda: ours(**AUTHORS)))
        default.append(loop / seconds(lambda: ours(seed=0)))
    return equal, default


def vit() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_base_patch16_224", pretrained=False).eval()


def clip() -> DualEncoder:
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    return DualEncoder.from_model(CLIPModel(CLIPConfig()).eval())  # its defaults are ViT-B/32's


def cross_entropy(logits: Tensor) -> Tensor:
    return -torch.log_softmax(logits, dim=1)[:, 0]


def pair() -> tuple[Tensor, Tensor]:
    """One image and one caption of 12 tokens, begin and end included."""
    torch.manual_seed(0)
    ids = torch.randint(1000, 40000, (1, 12))
    ids[:, 0], ids[:, -1] = 49406, 49407
    return torch.randn(1, 3, 224, 224), ids


def towers(dual: DualEncoder, pixels: Tensor, ids: Tensor):
    """Per tower: forward to the cosine, input, layer."""
    model = dual.model
    model.config.text_config.eos_token_id = 49407
    with torch.no_grad():
        other = {"image": dual.encode("text", ids), "text": dual.encode("image", pixels)}
    for name, value in (("image", pixels), ("text", ids)):
        block = dual.default_layer(name)[1]
        yield lambda v, n=name: (dual.encode(n, v) * other[n]).sum(-1), value, block


def m2ib(repeats: int) -> tuple[list[float], list[float]]:
    dual, (pixels, ids) = clip(), pair()

    def plain() -> None:
        for forward, value, block in towers(dual, pixels, ids):
            bottleneck_loop(forward, value, [block], lambda cosine: -cosine, 0.1, standard=True)

    method = M2IB(dual)
    return both(plain, lambda **options: method.attribute((pixels, ids), **options), repeats)


def nib(repeats: int) -> list[float]:
    dual, (pixels, ids) = clip(), pair()

    def plain() -> None:
        for forward, value, block in towers(dual, pixels, ids):
            path_loop(forward, value, block)

    method = NIB(dual)
    return ratio(plain, lambda: method.attribute((pixels, ids)), repeats)


def coiba(repeats: int) -> tuple[list[float], list[float]]:
    model, x = vit(), torch.randn(1, 3, 224, 224)
    layers = [model.get_submodule(name) for name in COIBA_LAYERS]
    plain = partial(bottleneck_loop, model, x, layers, cross_entropy, 1.0, uniform=True)
    method = CoIBA(model, COIBA_LAYERS)
    return both(plain, lambda **options: method.attribute(x, target=0, **options), repeats)


def coiba_batch(repeats: int) -> tuple[list[float], list[float]]:
    """A batch of 8 against 8 single calls: all rows in one pass, and 8 rows at a time."""
    model, x = vit(), torch.randn(8, 3, 224, 224)
    method = CoIBA(model, COIBA_LAYERS)
    options: dict[str, Any] = {"target": 0, "seed": 0, "n_steps": 4}
    whole, cut = [], []
    for _ in range(repeats):
        single = 8 * seconds(lambda: method.attribute(x[:1], **options))
        whole.append(single / seconds(lambda: method.attribute(x, **options)))
        cut.append(single / seconds(lambda: method.attribute(x, internal_batch_size=8, **options)))
    return whole, cut


def iba(repeats: int) -> tuple[list[float], list[float]]:
    model, x = vit(), torch.randn(1, 3, 224, 224)
    plain = partial(bottleneck_loop, model, x, [model.blocks[6]], cross_entropy, 10.0)
    method = IBA(model, "blocks.6")
    return both(plain, lambda **options: method.attribute(x, target=0, **options), repeats)


def overhead(repeats: int) -> list[float]:
    """IBA's fit (4 draws) over the pure forward and backward passes of blocks 7–11 and the head."""
    model, x = vit().requires_grad_(False), torch.randn(1, 3, 224, 224)
    hidden = torch.randn(4, 197, 768)

    def pure() -> None:
        for _ in range(10):
            state = hidden.clone().requires_grad_()
            out = state
            for block in model.blocks[7:]:
                out = block(out)
            loss = cross_entropy(model.head(model.fc_norm(model.norm(out)[:, 0]))).sum()
            torch.autograd.grad(loss, state)

    method = IBA(model, "blocks.6")
    options = {
        "target": 0,
        "seed": 0,
        "n_samples": 4,
        "return_trace": True,
    }  # evaluates the last loss, too
    return [1 / value for value in ratio(pure, lambda: method.attribute(x, **options), repeats)]


def activation_statistics(repeats: int) -> list[float]:
    values = torch.randn(1000, 197, 768)

    def ours() -> None:
        kept = ActivationStatistics()
        for batch in values.split(50):
            kept.update("layer", batch)

    return ratio(lambda: statistics_loop(values), ours, repeats)


def peak_mebibytes() -> float:
    """Peak resident set of this process; getrusage would start at that of the parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def memory_probe(which: str) -> None:
    """Peak memory over that of the model and its input, MiB, of CoIBA at the default settings."""
    model, x = vit(), torch.randn(1, 3, 224, 224)
    before = peak_mebibytes()
    if which == "plain":
        layers = [model.get_submodule(name) for name in COIBA_LAYERS]
        bottleneck_loop(model, x, layers, cross_entropy, 1.0, uniform=True, n_steps=2, n_samples=4)
    else:
        CoIBA(model, COIBA_LAYERS).attribute(x, target=0, n_steps=3, seed=0)
    print(peak_mebibytes() - before)


def memory(repeats: int) -> list[float]:
    def peak(which: str) -> float:
        command = [sys.executable, "-m", "benchmarks.speed", "--probe", which]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    return [peak("ours") / peak("plain") for _ in range(repeats)]


def import_time(repeats: int) -> list[float]:
    def run(module: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {module}"], check=True)

    return [seconds(run("captum_ib")) / seconds(run("captum.attr")) for _ in range(repeats)]


Row = tuple[str, str]
"""(what, goal)"""

ROWS: dict[str, tuple[Callable[[int], Any], list[Row]]] = {
    "m2ib": (m2ib, [
        ("M2IB, CLIP ViT-B/32, one pair, equal settings: times faster", "≥ 9"),
        ("the same, our defaults against the authors' settings", "≥ 20"),
    ]),
    "nib": (nib, [("NIB, CLIP ViT-B/32, both towers, 10 steps: times faster", "≥ 1.9")]),
    "coiba": (coiba, [
        ("CoIBA, ViT-B/16, blocks.4…11.norm1, equal settings: times faster", "≥ 2"),
        ("the same, our defaults against the authors' settings", "≥ 5"),
    ]),
    "coiba-batch": (coiba_batch, [
        ("CoIBA, ViT-B/16, a batch of 8 against 8 single calls: times faster", "≥ 1"),
        ("the same with internal_batch_size=8", "≥ 1"),
    ]),
    "iba": (iba, [
        ("IBA, ViT-B/16, block 6, equal settings: times faster", "≥ 3"),
        ("the same, our defaults against the authors' settings", "≥ 7"),
    ]),
    "overhead": (overhead, [("IBA's fit over forward+backward of what depends on it", "≤ 1.15")]),
    "statistics": (activation_statistics,
                   [("statistics of 1,000 ViT-B activations: times faster", "≥ 4")]),
    "memory": (memory, [("peak memory of CoIBA over the plain loop's", "≤ 1.0")]),
    "import": (import_time, [("import captum_ib over import captum.attr", "≤ 1.2")]),
}  # fmt: skip
"""Key → measurement (repeats → values, or one list of values per row), its rows."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--probe", choices=["plain", "ours"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.probe:
        memory_probe(arguments.probe)
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "timm"))
    print(f"{platform.machine()}, {arguments.threads} thread(s), {packages}\n")
    print("| what | goal | median | least–most |\n|---|---|---|---|", flush=True)
    for key in arguments.rows:
        measure, entries = ROWS[key]
        measured = measure(arguments.repeats)
        for (what, goal), values in zip(
            entries, measured if isinstance(measured, tuple) else (measured,), strict=True
        ):
            median = statistics.median(values)
            spread = f"{min(values):.2f}–{max(values):.2f}"
            print(f"| {what} | {goal} | {median:.2f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
