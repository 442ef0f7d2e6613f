"""Fine-tune several copies of a model side by side, each on its own data."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_ib.metrics.checkpoint import load, save
from captum_ib.metrics.scorer import model_device

Batch = tuple[Tensor, ...]
Loss = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long to train and how.

    Attributes:
        epochs: passes over the training data.
        lr: learning rate of AdamW.
        weight_decay: AdamW's decoupled decay.
        batch_size: samples per step.
        seed: order of the batches and of dropout.
        max_steps: stop after this many steps in all; None: after ``epochs``.
        max_seconds: stop this call after so many seconds; None: never.
    """

    epochs: int = 5
    lr: float = 1e-5
    weight_decay: float = 0.0
    batch_size: int = 32
    seed: int = 0
    max_steps: int | None = None
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "lr", "batch_size", "max_steps", "max_seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, given {value}")


@dataclass
class Progress:
    """Where a fine-tuning stands.

    Attributes:
        step: steps made.
        finished: whether all steps of the schedule are made; False: the budget ended first.
        validation: validation losses, one row per epoch: (step, loss of every copy).
    """

    step: int = 0
    finished: bool = False
    validation: list[list[float]] = field(default_factory=list)


class SideBySide:
    """Copies of one model, trained in lockstep.

    Every step trains each copy on the same samples (of its own data set) under the same random
    state, so that the copies differ by their data only, wherever a budget stops them. The model
    itself and the global random state are left alone.

    Args:
        model: the model; deep-copied once per data set.
        train: data sets of equal length, each a tuple of tensors ``(N, …)``.
        validation: one data set for all copies.
        loss: ``(model, batch) → scalar``, the mean over the batch.
        schedule: see ``Schedule``.
        checkpoint: file to resume from and to save to, at every epoch and when the budget ends.
        show_progress: a bar over the steps.

    Raises:
        ValueError: data sets of different lengths or too short for a batch of two; a checkpoint of
            another run.
        RuntimeError: the loss is no longer finite.
    """

    def __init__(
        self,
        model: nn.Module,
        train: Sequence[Batch],
        validation: Batch,
        loss: Loss,
        schedule: Schedule,
        checkpoint: Path | None = None,
        show_progress: bool = False,
    ) -> None:
        lengths = {len(tensor) for data in train for tensor in data}
        if len(lengths) != 1 or min(lengths) < 2 or len(validation[0]) < 2:
            raise ValueError(
                "fine-tuning needs at least two training and two validation samples, the same "
                f"number in every data set; given {sorted(lengths)} and {len(validation[0])}"
            )
        self._train, self._validation, self._loss = train, validation, loss
        self._schedule, self._checkpoint, self._show = schedule, checkpoint, show_progress
        self._fingerprint = _fingerprint(model, train, validation, schedule)
        self.models = [copy.deepcopy(model).requires_grad_(True) for _ in train]
        self._optimizers = [
            torch.optim.AdamW(
                copied.parameters(), lr=schedule.lr, weight_decay=schedule.weight_decay
            )
            for copied in self.models
        ]
        self.progress = Progress()
        if checkpoint is not None and checkpoint.exists():
            self._load(checkpoint)

    def run(self) -> Progress:
        """Train until the schedule or the budget ends; returns where that was."""
        started, made_here = time.monotonic(), 0
        steps, per_epoch = self._steps()
        bar = tqdm(
            total=steps, initial=self.progress.step, disable=not self._show, desc="fine-tuning"
        )
        with bar:
            while self.progress.step < steps:
                # At least one step per call: a budget that is always used up would never end.
                if made_here and self._late(started):
                    break
                self._one_step(per_epoch)
                made_here += 1
                bar.update()
                if self.progress.step % per_epoch == 0 or self.progress.step == steps:
                    self._validate()
                    self._save()
        self.progress.finished = self.progress.step >= steps
        if not self.progress.finished:
            self._validate()
            self._save()
        return self.progress

    def _late(self, started: float) -> bool:
        limit = self._schedule.max_seconds
        return limit is not None and time.monotonic() - started >= limit

    def _steps(self) -> tuple[int, int]:
        # A last batch of one has no negatives and no batch statistics: it joins the one before.
        samples, size = len(self._train[0][0]), self._schedule.batch_size
        per_epoch = max(1, math.ceil(samples / size) - (samples % size == 1))
        steps = per_epoch * self._schedule.epochs
        if self._schedule.max_steps is not None:
            steps = min(steps, self._schedule.max_steps)
        return steps, per_epoch

    def _one_step(self, per_epoch: int) -> None:
        epoch, position = divmod(self.progress.step, per_epoch)
        order = torch.randperm(
            len(self._train[0][0]),
            generator=torch.Generator().manual_seed(self._schedule.seed * 1_000_003 + epoch),
        )
        size = self._schedule.batch_size
        end = None if position == per_epoch - 1 else (position + 1) * size
        chosen = order[position * size : end]
        for model, optimizer, data in zip(self.models, self._optimizers, self._train, strict=True):
            model.train()
            with _seeded(model_device(model), self._schedule.seed * 1_000_003 + self.progress.step):
                loss = self._loss(model, _take(data, chosen, model))
            if not bool(torch.isfinite(loss)):
                raise RuntimeError(
                    f"the training loss is {loss.item()} at step {self.progress.step}; a smaller "
                    "learning rate usually mends that"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        self.progress.step += 1

    @torch.no_grad()
    def _validate(self) -> None:
        samples, size = len(self._validation[0]), self._schedule.batch_size
        starts = list(range(0, samples, size))
        if samples % size == 1 and len(starts) > 1:
            starts.pop()
        ends = [*starts[1:], samples]
        row = [float(self.progress.step)]
        for model in self.models:
            model.eval()
            total = 0.0
            for start, end in zip(starts, ends, strict=True):
                batch = _take(self._validation, torch.arange(start, end), model)
                total += float(self._loss(model, batch)) * (end - start)
            row.append(total / samples)
        self.progress.validation.append(row)

    def _save(self) -> None:
        if self._checkpoint is not None:
            header = {
                "fingerprint": self._fingerprint,
                "progress": json.dumps(asdict(self.progress)),
            }
            save(self._checkpoint, header, self.models, self._optimizers)

    def _load(self, path: Path) -> None:
        header = load(path, self._fingerprint, self.models, self._optimizers)
        self.progress = Progress(**json.loads(header["progress"]))


def contrastive_loss(first: Tensor, second: Tensor, scale: Tensor | float) -> Tensor:
    """CLIP's training loss (Radford et al., ICML 2021, Fig. 3): every pair against its batch.

    Args:
        first: ``(N, d)``, L2-normalised.
        second: ``(N, d)``, L2-normalised, row i the partner of row i of ``first``.
        scale: what multiplies the cosines, 1/temperature.

    Returns:
        The mean of the cross-entropies over rows and over columns, a scalar.

    >>> float(contrastive_loss(torch.eye(4), torch.eye(4), 0.0))  # no scale: log 4
    1.386...
    """
    logits = scale * first @ second.T
    target = torch.arange(len(logits), device=logits.device)
    rows = nn.functional.cross_entropy(logits, target)
    return (rows + nn.functional.cross_entropy(logits.T, target)) / 2


def _take(data: Batch, chosen: Tensor, model: nn.Module) -> Batch:
    return tuple(tensor[chosen].to(model_device(model)) for tensor in data)


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """A random state of its own, for dropout; the caller's comes back after."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _fingerprint(
    model: nn.Module, train: Sequence[Batch], validation: Batch, schedule: Schedule
) -> str:
    """What has to be the same for a checkpoint to be continued; the budget may change."""
    settings = {k: v for k, v in asdict(schedule).items() if not k.startswith("max_")}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    tensors = [tensor for data in (*train, validation) for tensor in data]
    for tensor in [*model.state_dict().values(), *tensors]:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
