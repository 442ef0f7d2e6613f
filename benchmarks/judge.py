"""The numbers of docs/metrics.md: pairs of clip-scenes, certificates on vit-scenes, FunnyBirds.

python benchmarks/judge.py pairs --n 400
python benchmarks/judge.py certificate --n 32
python benchmarks/judge.py funnybirds --data ../shared/funnybirds --model ../shared/conformance/vit
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import InputXGradient, IntegratedGradients
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from captum_ib import IBA, M2IB, NIB, CoIBA, DualEncoder, zoo
from captum_ib.metrics import (
    ConfidenceDrop,
    ConfidenceIncrease,
    FunnyBirds,
    LocalizationIoU,
    ROARPlus,
    certify,
    evaluate_funnybirds,
    explain_func,
)
from captum_ib.metrics.funnybirds import Responses

HELD_OUT = 1_000_003  # the seed that no zoo model was trained on


def noise(model, inputs, targets, seed: int = 0, **kwargs) -> np.ndarray:
    """The floor: zero-mean noise, one value per pixel."""
    rng = np.random.default_rng(seed)
    shape = (len(inputs), 1, *inputs.shape[2:]) if inputs.ndim == 4 else inputs.shape
    return rng.standard_normal(shape).astype(np.float32)


def truth(scenes, ids: np.ndarray) -> dict[str, np.ndarray]:
    """The ceiling: the pixels of the named objects, the words that carry content."""
    words = np.zeros(ids.shape, np.float32)
    for row, content in zip(words, scenes.content, strict=True):
        row[1 : 1 + len(content)] = content  # behind the begin token
    return {"image": scenes.mask.numpy()[:, None].astype(np.float32), "text": words}


def pairs(args: argparse.Namespace) -> None:
    """Localisation, confidence and ROAR+ of M2IB, NIB and noise on held-out pairs."""
    model, scenes = zoo.load("clip-scenes"), zoo.scenes.captioned(args.n, seed=HELD_OUT)
    dual = DualEncoder.from_model(model.model).eval()
    x = model.normalize(scenes.images).numpy()
    ids, masks = model.tokenizer(scenes.captions)[0].numpy(), scenes.mask.numpy()
    tokenizer = model.tokenizer
    tokens = {
        "special_tokens": (tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id),
        "blank_token": tokenizer.words.index(args.blank),
    }
    early = ["vision_model.encoder.layers.2", "text_model.encoder.layers.4"]
    makers = {
        "M2IB": lambda side: explain_func(M2IB, modality=side, seed=0),
        "M2IB, image block 2": lambda side: explain_func(M2IB, modality=side, layers=early, seed=0),
        "NIB": lambda side: explain_func(NIB, modality=side),
        "noise": lambda side: noise,
        "truth": lambda side: lambda **call: truth(scenes, ids)[side],
    }
    for name in args.methods or makers:
        started, maps = time.time(), {}
        for side, one, other in (("image", x, ids), ("text", ids, x)):
            maps[side] = makers[name](side)(model=dual, inputs=one, targets=other)
        explained = time.time() - started
        roar = ROARPlus(epochs=args.epochs, lr=args.lr, seeds=range(args.seeds), **tokens)
        started = time.time()
        roar(dual, x, ids, maps["image"], custom_batch=maps["text"])
        row = {
            "IoU": LocalizationIoU()(dual, x, ids, maps["image"], masks),
            "drop image": ConfidenceDrop()(dual, x, ids, maps["image"]),
            "increase image": ConfidenceIncrease()(dual, x, ids, maps["image"]),
            "drop text": ConfidenceDrop(modality="text", **tokens)(dual, ids, x, maps["text"]),
            "increase text": ConfidenceIncrease(modality="text", **tokens)(
                dual, ids, x, maps["text"]
            ),
            "ROAR+": [run.score for run in roar.runs],
        }
        show(name, row, explain_s=explained, roar_s=time.time() - started)


def certificate(args: argparse.Namespace) -> None:
    """How often cutting below a number of bits moves the prediction of vit-scenes."""
    model, scenes = zoo.load("vit-scenes"), zoo.scenes.labelled(args.n, seed=HELD_OUT)
    x = model.normalize(scenes.images)
    with torch.no_grad():
        target = model.model(x).argmax(1)
    for method in (IBA(model.model), CoIBA(model.model)):
        bits = method.attribute(x, target=target, seed=0)
        for threshold in args.bits:
            found = certify(method, x, bits, threshold, target=target, n_draws=args.draws)
            noisy = certify(
                method,
                x,
                bits.flatten(1)[:, torch.randperm(64, generator=generator())].view_as(bits),
                threshold,
                target=target,
                n_draws=args.draws,
            )
            show(
                f"{method.get_name()} < {threshold:g} bits",
                {
                    "replaced %": 100 * found.replaced,
                    "moves %": 100 * found.rate,
                    "change": found.change,
                    "moves %, shuffled": 100 * noisy.rate,
                },
            )


def generator() -> torch.Generator:
    """The shuffle of the positions, the same for every threshold."""
    return torch.Generator().manual_seed(0)


class Resized(nn.Module):
    """The ViT of a folder on pictures of any size in [0, 1], as its config.json says."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        config = json.loads((folder / "config.json").read_text())
        self.size = config["kwargs"]["img_size"]
        self.vit = VisionTransformer(**config["kwargs"])
        self.vit.load_state_dict(load_file(folder / "model.safetensors"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits."""
        small = F.interpolate(
            x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False
        )
        return self.vit((small - 0.5) / 0.5)


def funnybirds(args: argparse.Namespace) -> None:
    """All FunnyBirds scores of one method, in both readings."""
    data, model = FunnyBirds(args.data), Resized(args.model).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    responses = Responses(data, model)
    methods = {
        "inputxgrad": explain_func(InputXGradient),
        "ig": explain_func(IntegratedGradients, n_steps=20, method="riemann_middle"),
        "IBA": explain_func(IBA, layer="vit.blocks.0", seed=0),
        "CoIBA": explain_func(CoIBA, layers=[f"vit.blocks.{i}.norm1" for i in range(12)], seed=0),
        "NIB": explain_func(NIB, layer="vit.blocks.4"),
        "noise": noise,
    }
    for name in args.methods:
        remembered: dict[tuple, np.ndarray] = {}

        def explain(model, inputs, targets, name=name, remembered=remembered, **kwargs):
            key = (inputs.tobytes(), targets.tobytes())
            if key not in remembered:
                remembered[key] = methods[name](model=model, inputs=inputs, targets=targets)
            return remembered[key]

        for compat in ("original", None):
            scores = evaluate_funnybirds(model, explain, data, compat=compat, responses=responses)
            numbers = {key: round(value, 5) for key, value in scores.as_dict().items()}
            print(json.dumps({"method": name, "compat": compat, **numbers}), flush=True)


def show(name: str, row: dict, **extra: float) -> None:
    """Mean and standard error of every score, on one line."""
    cells = {}
    for key, values in row.items():
        values = np.asarray(values, dtype=float)
        error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        cells[key] = f"{values.mean():.3f} ± {error:.3f}"
    cells.update({key: round(value, 1) for key, value in extra.items()})
    print(json.dumps({"name": name, **cells}, ensure_ascii=False), flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    tables = parser.add_subparsers(required=True)
    table = tables.add_parser("pairs")
    table.add_argument("--n", type=int, default=400)
    table.add_argument("--epochs", type=int, default=3)
    table.add_argument("--lr", type=float, default=1e-4)
    table.add_argument("--seeds", type=int, default=2)
    table.add_argument("--methods", nargs="+", help="some of the table's rows")
    table.add_argument("--blank", default="a", help="the word that replaces a removed one")
    table.set_defaults(run=pairs)
    table = tables.add_parser("certificate")
    table.add_argument("--n", type=int, default=32)
    table.add_argument("--draws", type=int, default=100)
    table.add_argument("--bits", type=float, nargs="+", default=[0.1, 0.5, 1.0, 2.0, 5.0, 10.0])
    table.set_defaults(run=certificate)
    table = tables.add_parser("funnybirds")
    table.add_argument("--data", type=Path, required=True)
    table.add_argument("--model", type=Path, required=True)
    table.add_argument("--methods", nargs="+", default=["inputxgrad", "ig", "noise"])
    table.set_defaults(run=funnybirds)
    args = parser.parse_args()
    torch.manual_seed(0)
    args.run(args)


if __name__ == "__main__":
    main()
