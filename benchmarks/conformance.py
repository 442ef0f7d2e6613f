"""Differences between the comparators and the outputs of the authors' own code.

    python -m benchmarks.conformance ../shared/conformance

Per method the largest absolute difference of each sample over its largest value: median and worst
sample. In double precision as well, which shows the rounding of the authors' single precision.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from captum_ib import (
    AttentionGradCAM,
    AttentionRollout,
    DualEncoder,
    GenericAttention,
    TransformerAttribution,
)
from captum_ib.loading.load import load


def report(name: str, found: Tensor, expected: Tensor) -> None:
    """One line."""
    found, expected = found.flatten(1).double(), expected.flatten(1).double()
    gap = (found - expected).abs().amax(dim=1)
    gap = gap / expected.abs().amax(dim=1).clamp_min(1e-12)
    print(f"{name:45} median {gap.median():.1e}  worst {gap.max():.1e}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with vit/, clip/ and their safetensors")
    folder = parser.parse_args().folder
    vit = load(str(folder / "vit")).model
    data = load_file(folder / "vit_images.safetensors")
    x, target = data["pixel_values"], data["target"]
    clip = load(str(folder / "clip"), mean=[0.5] * 3, std=[0.5] * 3).model
    pairs = load_file(folder / "clip_pairs.safetensors")
    print(f"torch {torch.__version__}")
    for dtype in (torch.float32, torch.float64):
        kind = str(dtype).removeprefix("torch.")
        vit, pixels = vit.to(dtype), x.to(dtype)
        for method, key, settings in (
            (AttentionRollout, "rollout", {}),
            (AttentionGradCAM, "attention_gradcam", {}),
            (TransformerAttribution, "transformer_attribution", {}),
            (TransformerAttribution, "transformer_attribution_start1", {"start_layer": 1}),
        ):
            found = method(vit).attribute(pixels, target=target, **settings)
            report(f"{key} ({kind})", found, data[key])
        dual = DualEncoder.from_model(clip.to(dtype))
        for key, start in (("all", 0), ("last", -1)):
            image, text = GenericAttention(dual).attribute(
                (pairs["pixel_values"].to(dtype), pairs["input_ids"]),
                additional_forward_args=pairs["attention_mask"],
                start_layer=start,
            )
            report(f"generic_image_{key} ({kind})", image, pairs[f"generic_image_{key}"])
            report(f"generic_text_{key} ({kind})", text, pairs[f"generic_text_{key}"])


if __name__ == "__main__":
    main()
