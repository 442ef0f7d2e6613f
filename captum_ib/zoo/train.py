"""Train the models of the zoo: ``python -m captum_ib.zoo.train clip-scenes``."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim import AdamW, Optimizer
from tqdm import tqdm

from captum_ib.zoo import architectures, checkpoint, learners, scenes
from captum_ib.zoo.captions import vocabulary
from captum_ib.zoo.muon import Muon
from captum_ib.zoo.tokenizer import WordTokenizer


@dataclass(frozen=True)
class Run:
    """The settings of a training run.

    Attributes:
        name: Which model, a name of the zoo.
        seed: Seed of the initial weights and of the images.
        steps: Number of optimiser steps.
        batch: Images per step.
        lr: Highest learning rate of AdamW, reached after ``warmup`` of the steps; a half cosine
            leads there and another one down to 0.
        matrix_lr: The same of Muon, which takes the matrices of the transformers' blocks.
        warmup: Share of the steps.
        weight_decay: AdamW's, on matrices only.
        auxiliary: Weight of the per-patch losses at the start; it goes linearly to 0.
    """

    name: str
    seed: int = 0
    steps: int = 3000
    batch: int = 96
    lr: float = 2e-3
    matrix_lr: float = 1e-2
    warmup: float = 0.1
    weight_decay: float = 0.05
    auxiliary: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in learners.LEARNERS:
            raise ValueError(
                f"unknown model {self.name!r}; the zoo has {sorted(learners.LEARNERS)}."
            )
        if self.steps < 1 or self.batch < 2:
            raise ValueError(
                f"steps must be at least 1 and batch at least 2; got {self.steps}, {self.batch}."
            )
        if not (self.lr > 0 and self.matrix_lr > 0 and self.auxiliary >= 0):
            raise ValueError(
                f"lr and matrix_lr must be above 0 and auxiliary at least 0; got {self.lr}, "
                f"{self.matrix_lr}, {self.auxiliary}."
            )

    def settings(self, step: int) -> dict[str, str]:
        """The settings and the number of steps done, as the header of a file holds them."""
        return {name: str(value) for name, value in vars(self).items()} | {"step": str(step)}

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0, as a share of the highest one."""
        rise = max(1, round(self.warmup * self.steps))
        if step < rise:
            return 0.5 * (1 - math.cos(math.pi * (step + 1) / rise))
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / (self.steps - rise)))


def train(
    run: Run,
    checkpoint_file: Path,
    *,
    stop_after: int | None = None,
    save_every: int = 200,
    show_progress: bool = True,
) -> learners.Learner:
    """Train from the checkpoint, if there is one, else from the start.

    Args:
        run: The settings.
        checkpoint_file: Where the state is kept; written every ``save_every`` steps and at the end.
        stop_after: Stop when so many steps are done in all; default: all of ``run.steps``.
        save_every: Steps between two checkpoints.
        show_progress: Whether to show a progress bar with rate and loss.

    Returns:
        The learner in the state of the last checkpoint.

    Raises:
        ValueError: If the checkpoint is of a run with other settings.
        RuntimeError: If the loss is no longer finite.
    """
    if save_every < 1:
        raise ValueError(f"save_every must be at least 1; got {save_every}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.seed)
        learner = learners.LEARNERS[run.name]()
    optimizers = _optimizers(run, learner)
    done = 0
    if checkpoint_file.exists():
        done = checkpoint.restore(checkpoint_file, learner, optimizers, run.settings(0))
    last = run.steps if stop_after is None else min(stop_after, run.steps)
    learner.train()
    bar = tqdm(range(done, last), initial=done, total=run.steps, disable=not show_progress)
    for step, data in zip(bar, _batches(run, learner, range(done, last)), strict=True):
        main, auxiliary = _step(run, learner, optimizers, step, data)
        bar.set_postfix(loss=f"{main:.3f}", patches=f"{auxiliary:.3f}", refresh=False)
        if (step + 1) % save_every == 0 or step + 1 == last:
            checkpoint.save(checkpoint_file, learner, optimizers, run.settings(step + 1))
    return learner.eval()


def _batches(run: Run, learner: learners.Learner, steps: range) -> Iterator[scenes.Scenes]:
    """The batch of each step; the next one is drawn in a thread while this one is learned."""

    def draw(step: int) -> tuple[int, scenes.Scenes]:
        most = learners.most_objects(step / run.steps, learner.curriculum)
        return step, learner.draw(run.batch, run.seed, step * run.batch, most)

    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(draw, steps.start) if steps else None
        while following is not None:
            step, data = following.result()
            following = pool.submit(draw, step + 1) if step + 1 in steps else None
            yield data


def _step(
    run: Run,
    learner: learners.Learner,
    optimizers: Sequence[Optimizer],
    step: int,
    data: scenes.Scenes,
) -> tuple[float, float]:
    """One optimiser step; returns the two losses."""
    progress = step / run.steps
    main, auxiliary = learner(data)
    loss = main + run.auxiliary * (1 - progress) * auxiliary
    if not torch.isfinite(loss):
        raise RuntimeError(f"the loss is {loss.item()} at step {step}; try a lower --lr.")
    learner.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["highest"] * run.rate(step)
        optimizer.step()
    return main.item(), auxiliary.item()


def _optimizers(run: Run, learner: nn.Module) -> list[Optimizer]:
    """Muon for the matrices of the blocks, AdamW for all else: embeddings, heads, vectors.

    Each group keeps its highest rate under ``"highest"``, for the schedule.
    """
    matrices, embeddings, vectors = [], [], []
    for name, parameter in learner.named_parameters():
        if parameter.ndim == 2 and (".blocks." in name or ".layers." in name):
            matrices.append(parameter)
        elif parameter.ndim >= 2:
            embeddings.append(parameter)
        else:
            vectors.append(parameter)
    fast = {"lr": run.lr, "highest": run.lr}
    return [
        Muon(
            [{"params": matrices, "highest": run.matrix_lr}],
            lr=run.matrix_lr,
            weight_decay=run.weight_decay,
        ),
        AdamW(
            [
                {"params": embeddings, "weight_decay": run.weight_decay, **fast},
                {"params": vectors, "weight_decay": 0.0, **fast},
            ],
            betas=(0.9, 0.98),
        ),
    ]


def export(run: Run, learner: learners.Learner, folder: Path) -> None:
    """Write the folder that :func:`captum_ib.zoo.load` reads: configuration, weights, words."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {"config.json": architectures.config_of(run.name)}
    if run.name == "clip-scenes":
        files["preprocessor_config.json"] = architectures.processor_config()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    if run.name == "clip-scenes":
        WordTokenizer(vocabulary()).save(folder / "words.json")
    # transformers wants to read "format" before it loads a file.
    metadata = run.settings(run.steps) | {"format": "pt", "torch": torch.__version__}
    checkpoint.write_tensors(folder / "model.safetensors", learner.model.state_dict(), metadata)


_OPTIONS = {
    "seed": "of the initial weights and the images",
    "steps": "optimiser steps",
    "batch": "images per step",
    "lr": "highest learning rate of AdamW",
    "matrix_lr": "highest learning rate of Muon",
    "auxiliary": "weight of the per-patch losses at the start",
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m captum_ib.zoo.train", description=__doc__)
    parser.add_argument("name", choices=sorted(learners.LEARNERS), help="which model")
    for name, meaning in _OPTIONS.items():
        default = getattr(Run, name)
        option = "--" + name.replace("_", "-")
        explanation = f"{meaning} (default: {default})"
        parser.add_argument(option, type=type(default), default=default, help=explanation)
    parser.add_argument("--out", type=Path, help="folder to write to (default: zoo-NAME)")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--save-every", type=int, default=200, help="steps between checkpoints")
    return parser


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: train, then write the model's folder."""
    parser = _parser()
    given = parser.parse_args(arguments)
    folder = given.out or Path(f"zoo-{given.name}")
    state = folder / "checkpoint.safetensors"
    if state.exists() and not given.resume:
        parser.error(f"{state} exists; pass --resume to go on from there, or another --out.")
    if given.resume and not state.exists():
        parser.error(f"there is no {state} to resume from; leave out --resume.")
    try:
        run = Run(given.name, **{option: getattr(given, option) for option in _OPTIONS})
        learner = train(run, state, save_every=given.save_every)
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, f"\ninterrupted; go on with --resume --out {folder}\n")
    export(run, learner, folder)
    sys.stdout.write(f"{given.name}: {run.steps} steps done, written to {folder}\n")


if __name__ == "__main__":
    main()
