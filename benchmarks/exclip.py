"""ExCLIP against a loop over the dimensions of the embedding: seconds of the loop / of ours.

    python -m benchmarks.exclip --width 512 --patches 49

At least 5 is asked for. The loop is the plain way to J_g and J_f: one backward pass per dimension
and tower, all steps of the path as one batch, from the same block on, on the same random CLIP.
Both give the same interactions, which is checked. In turns; the ratio is that of the medians. On
CPU both are CPU time of this process, on CUDA wall time.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from benchmarks.rise import measure
from captum_ib import DualEncoder
from captum_ib.baselines import ExCLIP

STEPS = 10


def jacobian(run: nn.Module, block: nn.Module, x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Σ_i ∫ J_dki dα (x − x')_ki ``(d, T)``, a backward pass per dimension; and the embedding."""
    states: list[Tensor] = []

    def keep(_: nn.Module, args: tuple, kwargs: dict) -> None:
        states.append(args[0] if args else kwargs["hidden_states"])

    handle = block.register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        embedding = run(x)[0]
        run(r)
    handle.remove()
    alpha = torch.arange(1, STEPS + 1, device=x.device).reshape(-1, 1, 1) / STEPS
    h = (states[1] + alpha * (states[0] - states[1])).requires_grad_()

    def put(_: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return ((h, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": h})

    handle = block.register_forward_pre_hook(put, with_kwargs=True)
    found = run(x.expand(STEPS, *x.shape[1:]))
    handle.remove()
    rows = [
        torch.autograd.grad(found[:, d].sum(), h, retain_graph=True)[0].mean(dim=0)
        for d in range(found.shape[1])
    ]
    return (torch.stack(rows) * (states[0] - states[1])[0]).sum(dim=-1), embedding


def main() -> None:
    """Measure, and print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=512, help="of the joint space, d")
    parser.add_argument("--patches", type=int, default=49, help="a square number")
    parser.add_argument("--words", type=int, default=10)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--depth", type=int, default=4, help="blocks; the last quarter is run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    side = int(args.patches**0.5)
    tower = {"hidden_size": args.hidden, "intermediate_size": 4 * args.hidden,
             "num_hidden_layers": args.depth, "num_attention_heads": 8}  # fmt: skip
    text = {"vocab_size": 100, "max_position_embeddings": args.words, "eos_token_id": 99,
            "bos_token_id": 98, "pad_token_id": 0}  # fmt: skip
    torch.manual_seed(0)
    config = CLIPConfig(
        text_config={**tower, **text},
        vision_config={**tower, "image_size": 8 * side, "patch_size": 8},
        projection_dim=args.width,
    )
    model = CLIPModel(config).eval().requires_grad_(False).to(args.device)
    dual = DualEncoder.from_model(model)
    pixels = torch.rand(1, 3, 8 * side, 8 * side, device=args.device)
    ids = torch.tensor([[98, *range(1, args.words - 1), 99]], device=args.device)
    blank = torch.zeros_like(ids)
    blank[:, 0], blank[:, -1] = 98, 99
    method = ExCLIP(dual)
    found: dict[str, Tensor] = {}

    def ours() -> None:
        found["ours"] = method.interactions((pixels, ids), method="riemann_right", n_steps=STEPS)

    def loop() -> None:
        sides = []
        for (_, block), name, x, r in zip(
            method.layers, dual.modalities, (pixels, ids), (torch.zeros_like(pixels), blank),
            strict=True,
        ):  # fmt: skip
            a, embedding = jacobian(dual.tower(name), block, x, r)
            sides.append(a / embedding.norm())
        found["loop"] = (sides[1].T @ sides[0])[:, 1:].reshape(1, args.words, side, side)

    times: dict[str, list[float]] = {"ours": [], "loop": []}
    for _ in range(args.repeats):
        for name, run in (("ours", ours), ("loop", loop)):
            times[name].append(measure(run, args.device))
    gap = (found["ours"] - found["loop"]).abs().max() / found["loop"].abs().max()
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(
        json.dumps(
            {
                **vars(args), "torch": torch.__version__, "machine": platform.machine(),
                "seconds": {name: round(value, 3) for name, value in medians.items()},
                "ratio": round(medians["loop"] / medians["ours"], 2), "gap": float(f"{gap:.2g}"),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
