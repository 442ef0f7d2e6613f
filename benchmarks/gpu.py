"""Time and memory per map on a CUDA device: methods × models × batch sizes × number formats.

    python -m benchmarks.gpu [--models vit-b16 clip-b32 …] [--batches 1 8 64]
        [--formats float32 tf32 bfloat16] [--seconds 300] [--json rows.json]

Models are built from configurations with random weights (seed 0): speed does not depend on them.
Every number is the median of three calls after one warm-up, between two synchronisations; the
peak is torch's own count of allocated memory above the model's. ``bfloat16`` is autocast, ``tf32``
float32 with TF32 matrix products. ``--seconds`` ends the run early, at a whole row.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

from captum_ib import CAM2IB, IBA, M2IB, NIB, CoIBA, CoM2IB, DualEncoder, GenericAttention

ROWS_AT_ONCE = 256
"""Most rows per forward pass: what fits a ViT-L with its gradients into 80 GB."""

CLIP_L14 = {
    "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    "vision_config": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_hidden_layers": 24,
        "patch_size": 14,
    },
    "projection_dim": 768,
}


class Subject(NamedTuple):
    """A model and a batch of its inputs."""

    model: nn.Module
    inputs: Callable[[int], Any]
    methods: dict[str, Callable[[nn.Module], Callable[[Any], object]]]


def _classifier(name: str) -> Subject:
    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()

    def inputs(batch: int) -> Tensor:
        return torch.randn(batch, 3, 224, 224, generator=torch.Generator().manual_seed(1))

    return Subject(model, inputs, {
        "NIB": lambda m: _call(NIB(m)),
        "CoIBA": lambda m: _call(CoIBA(m), seed=0),
        "IBA": lambda m: _call(IBA(m), seed=0),
        "GenericAttention": lambda m: _call(GenericAttention(m)),
        "IntegratedGradients": lambda m: _call(IntegratedGradients(m)),
    })  # fmt: skip


def _pair(model: nn.Module, end: int | None, tokens: int, size: int = 224) -> Subject:
    dual = DualEncoder.from_model(model.eval())

    def inputs(batch: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(1000, 30000, (batch, tokens), generator=generator)
        if end is not None:
            ids[:, -1] = end
        return torch.randn(batch, 3, size, size, generator=generator), ids

    return Subject(dual, inputs, {
        "NIB": lambda m: _call(NIB(m), target=None),
        "M2IB": lambda m: _call(M2IB(m), target=None, seed=0),
        "CoM2IB": lambda m: _call(CoM2IB(m), target=None, seed=0),
        "CAM2IB": lambda m: _call(CAM2IB(m), target=None, seed=0),
    })  # fmt: skip


def _call(method: Any, **options: Any) -> Callable[[Any], object]:
    settings = {"target": 0, "internal_batch_size": ROWS_AT_ONCE, **options}
    return lambda inputs: method.attribute(inputs, **settings)


def _clip(config: dict[str, Any]) -> Subject:
    torch.manual_seed(0)
    return _pair(CLIPModel(CLIPConfig(**config)), 49407, 16)


def _siglip() -> Subject:
    torch.manual_seed(0)
    vision = {"image_size": 224, "patch_size": 16}
    return _pair(SiglipModel(SiglipConfig(vision_config=vision)), None, 64)


MODELS: dict[str, Callable[[], Subject]] = {
    "vit-b16": lambda: _classifier("vit_base_patch16_224"),
    "clip-b32": lambda: _clip({}),
    "siglip-b16": _siglip,
    "vit-l16": lambda: _classifier("vit_large_patch16_224"),
    "clip-l14": lambda: _clip(CLIP_L14),
}
"""Key → model with random weights; ``clip-b32`` is transformers' default configuration."""

LINE = "| {model} | {method} | {batch} | {format} | {ms:.1f} | {per_second:.1f} | {gib:.2f} |"
FORMATS = ("bfloat16", "tf32", "float32")


@contextmanager
def number_format(name: str) -> Iterator[None]:
    """Inside, matrix products run in this format."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
    try:
        with torch.autocast("cuda", torch.bfloat16) if name == "bfloat16" else nullcontext():
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def measure(run: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Seconds per call (median) and peak memory above what was there, in GiB."""

    def seconds() -> float:
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        return time.perf_counter() - start

    run()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    times = [seconds() for _ in range(repeats)]
    return statistics.median(times), (torch.cuda.max_memory_allocated() - before) / 2**30


def on_device(inputs: Any) -> Any:
    """Tensor or pair of tensors, on the device."""
    return tuple(value.cuda() for value in inputs) if isinstance(inputs, tuple) else inputs.cuda()


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One measurement after the other, as long as there is time."""
    end = time.perf_counter() + arguments.seconds
    for key in arguments.models:
        subject = MODELS[key]()
        model = subject.model.cuda()
        for batch in arguments.batches:
            inputs = on_device(subject.inputs(batch))
            for name, build in subject.methods.items():
                for form in arguments.formats:
                    if time.perf_counter() > end:
                        return
                    with number_format(form):
                        run = build(model)
                        taken, peak = measure(lambda run=run, inputs=inputs: run(inputs))
                    yield {"model": key, "method": name, "batch": batch, "format": form,
                           "ms": 1000 * taken / batch, "per_second": batch / taken,
                           "gib": peak}  # fmt: skip
        del model, subject
        torch.cuda.empty_cache()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS))
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--json", type=Path, help="write the rows here, too")
    arguments = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "timm"))
    print(f"{torch.cuda.get_device_name()}, {packages}\n")
    print("| model | method | batch | format | ms per map | maps per second | peak GiB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    found = []
    for row in rows(arguments):
        found.append(row)
        print(LINE.format(**row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
