"""ROAR+: does a model that never sees what the map marks learn less?"""

# Quantus calls this by keyword, with more of them than its base class says.
# pyright: reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from quantus.helpers.enums import DataType, EvaluationCategory, ScoreDirection
from quantus.helpers.model.model_interface import ModelInterface
from torch import Tensor, nn

from captum_ib.metrics.base import Samples, TorchMetric, check_array, constant, pixel_maps
from captum_ib.metrics.finetune import Batch, Loss, Schedule, SideBySide, contrastive_loss
from captum_ib.metrics.scorer import Pair, is_dual, model_input, sides, token_mask
from captum_ib.metrics.selection import above_quantile, content_values


@dataclass(frozen=True)
class RoarRun:
    """One seed's fine-tuning.

    Attributes:
        seed: of the split and of the training.
        score: 100 · (l_c − l_o)/l_o.
        loss_original: l_o, validation loss of the copy trained on the originals.
        loss_degraded: l_c, of the copy trained on the degraded samples.
        steps: training steps of each copy.
        finished: False where a budget ended the training before its last epoch.
        validation: rows (step, l_o, l_c), one per epoch.
    """

    seed: int
    score: float
    loss_original: float
    loss_degraded: float
    steps: int
    finished: bool
    validation: np.ndarray


class ROARPlus(TorchMetric):
    """Remove and fine-tune (ROAR+, of M2IB and CA-M2IB); higher is better, one score per seed.

    Two copies of the model are fine-tuned on the same 80 % of the samples, one on the originals,
    one with what the attribution marks removed; both are validated on the original 20 %:
    score = 100 · (l_c − l_o)/l_o with l_c, l_o their losses. A dual encoder is trained as CLIP was,
    with the symmetric contrastive loss within the batch; a classifier with cross-entropy.

    ``x_batch`` and ``a_batch`` are one modality and its attribution, ``y_batch`` the other modality
    (or class indices). Pass the other modality's attribution as ``custom_batch`` to degrade both.
    Images: pixels above the 75th percentile become the channel mean of the training images. Text:
    content tokens above the 50th percentile become the blank token.

    The model itself is not touched. Both copies take every step in lockstep, so a budget stops them
    at the same step.

    Args:
        epochs: passes over the training split (5).
        lr: AdamW's learning rate (1e-5, the usual order for fine-tuning CLIP).
        train_batch_size: samples per step, and per contrastive batch in validation (32).
        train_fraction: share of samples to train on (0.8).
        seeds: one run, and one score, for each.
        image_quantile: pixels above it are removed (0.75).
        text_quantile: tokens above it are removed (0.5).
        modality: which modality of a dual encoder ``x_batch`` is (its first).
        special_tokens: ids that are never removed; needed to degrade text.
        blank_token: id that replaces a removed token; needed to degrade text.
        pad_token: id of padding, for dual encoders that can't tell it from the ids themselves
            (CLIP can).
        temperature: of the contrastive loss where the model has no ``logit_scale`` of its own
            (0.07, where CLIP's starts); a ``logit_scale`` is used, and trained, instead.
        max_steps: budget per run, in steps.
        max_seconds: budget per run and call, in seconds.
        checkpoint_dir: folder for one safetensors file per seed, saved after every epoch and at the
            end of the budget; the same call continues from it.
        kwargs: see ``TorchMetric``; with ``undefined="nan"``, samples with a constant map or
            without content tokens are trained on as they are, and a validation loss l_o of 0 scores
            NaN.

    Attributes:
        runs: the last call's ``RoarRun`` per seed.

    Raises:
        ValueError: too few samples for the split; a validation loss l_o of 0; text without
            ``special_tokens`` and ``blank_token``; a checkpoint of another run.
        RuntimeError: the training diverged.
    """

    name = "ROAR+"
    data_applicability = {DataType.IMAGE, DataType.TEXT}  # noqa: RUF012
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.FAITHFULNESS

    def __init__(
        self,
        *,
        epochs: int = 5,
        lr: float = 1e-5,
        train_batch_size: int = 32,
        train_fraction: float = 0.8,
        seeds: Sequence[int] = (0,),
        image_quantile: float = 0.75,
        text_quantile: float = 0.5,
        modality: str | None = None,
        special_tokens: Sequence[int] | None = None,
        blank_token: int | None = None,
        pad_token: int | None = None,
        temperature: float = 0.07,
        max_steps: int | None = None,
        max_seconds: float | None = None,
        checkpoint_dir: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < train_fraction < 1:
            raise ValueError(f"train_fraction lies between 0 and 1, given {train_fraction}")
        if not seeds:
            raise ValueError("give at least one seed")
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, given {temperature}")
        self.schedules = [
            Schedule(epochs, lr, 0.0, train_batch_size, seed, max_steps, max_seconds)
            for seed in seeds
        ]
        self.train_fraction, self.modality = train_fraction, modality
        self.image_quantile, self.text_quantile = image_quantile, text_quantile
        self.special_tokens, self.blank_token = special_tokens, blank_token
        self.pad_token, self.temperature = pad_token, temperature
        self.checkpoint_dir = None if checkpoint_dir is None else Path(checkpoint_dir)
        self.runs: list[RoarRun] = []

    def _begin(self) -> None:
        self.runs, self._maps = [], []

    def _evaluate(self, samples: Samples) -> list[float]:
        """Keep the batch's attributions; the training needs all samples, at the end."""
        check_array("the attribution", samples.a)
        self._maps.append(samples.a)
        return []

    def custom_postprocess(
        self,
        *,
        model: ModelInterface,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        custom_batch: np.ndarray | None = None,
        **kwargs: Any,
    ) -> None:
        """Fine-tune and score, once all attributions are there."""
        module = model.get_model()
        given = [np.concatenate(self._maps)]
        if custom_batch is not None:
            given.append(np.asarray(custom_batch))
            check_array("custom_batch", given[1])
        originals = _tensors(module, x_batch, y_batch, self.modality, self.pad_token)
        names = sides(module, self.modality) if is_dual(module) else ("image", "target")
        for schedule in self.schedules:
            train, held = self._split(len(x_batch), schedule.seed)
            degraded = list(originals)
            for side, attributions in enumerate(given):
                degraded[side] = self._degrade(
                    names[side], originals[side], attributions, originals[2:], train
                )
            sets = [tuple(tensor[train] for tensor in data) for data in (originals, degraded)]
            validation = tuple(tensor[held] for tensor in originals)
            self.runs.append(self._run(module, sets, validation, schedule, names))
        self.evaluation_scores = [run.score for run in self.runs]

    def _split(self, count: int, seed: int) -> tuple[Tensor, Tensor]:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
        train = round(self.train_fraction * count)
        return order[:train], order[train:]

    def _run(
        self,
        module: nn.Module,
        sets: list[Batch],
        held: Batch,
        schedule: Schedule,
        names: tuple[str, str],
    ) -> RoarRun:
        path = None
        if self.checkpoint_dir is not None:
            path = self.checkpoint_dir / f"roar_seed{schedule.seed}.safetensors"
        loss = _pair_loss(names, self.temperature) if is_dual(module) else _class_loss
        tuning = SideBySide(
            module, sets, held, loss, schedule, path, show_progress=self.display_progressbar
        )
        progress = tuning.run()
        table = np.array(progress.validation)
        before, after = table[-1, 1:].tolist()
        score = float("nan")
        if before > 0:
            score = 100 * (after - before) / before
        elif self.undefined == "raise":
            raise ValueError(
                "the copy trained on the originals has a validation loss of 0, so ROAR+ has no "
                "relative increase; validate on more samples (x_batch, train_fraction)"
            )
        return RoarRun(schedule.seed, score, before, after, progress.step, progress.finished, table)

    def _degrade(
        self, modality: str, values: Tensor, maps: np.ndarray, masks: Batch, train: Tensor
    ) -> Tensor:
        if modality == "text":
            return self._without_tokens(values, maps, masks)
        flat = pixel_maps(maps, values.numpy(), self.name)
        useless = constant(flat)
        self._undefined(useless, "a constant attribution")
        chosen = above_quantile(flat.flatten(1), self.image_quantile).view(flat.shape)
        chosen &= ~useless[:, None, None]
        mean = values[train].mean((0, 2, 3), keepdim=True)
        return torch.where(chosen[:, None], mean, values)

    def _without_tokens(self, ids: Tensor, maps: np.ndarray, masks: Batch) -> Tensor:
        mask = masks[0] if masks else None
        values, content = content_values(
            ids, maps, self.special_tokens, self.blank_token, mask, self.name
        )
        self._undefined(~content.any(1), "a text of special tokens only")
        removed = above_quantile(values, self.text_quantile, content)
        return ids.masked_fill(removed, cast(int, self.blank_token))


def _tensors(
    module: nn.Module,
    x_batch: np.ndarray,
    y_batch: np.ndarray,
    modality: str | None,
    pad_token: int | None,
) -> Batch:
    """(inputs, other side or classes, text mask where the model has one), on the CPU."""
    inputs = model_input(x_batch, module, "cpu")
    other = model_input(y_batch, module, "cpu")
    if not is_dual(module):
        return inputs, other
    for side, values in zip(sides(module, modality), (inputs, other), strict=True):
        mask = token_mask(module, side, values, pad_token)
        if mask is not None:
            return inputs, other, mask.cpu()
    return inputs, other


def _pair_loss(names: tuple[str, str], temperature: float) -> Loss:
    """The contrastive loss of a batch (inputs, other side, mask of the text)."""

    def loss(dual: nn.Module, batch: Batch) -> Tensor:
        pair = cast(Pair, dual)
        mask = batch[2] if len(batch) > 2 else None
        first, second = [
            pair.encode(name, values, mask if name == "text" else None)
            for name, values in zip(names, batch[:2], strict=True)
        ]
        return contrastive_loss(first, second, _scale(dual, temperature))

    return loss


def _class_loss(model: nn.Module, batch: Batch) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def _scale(dual: nn.Module, temperature: float) -> Tensor | float:
    """What multiplies the cosines: exp of the model's own logit_scale, at most 100 as in CLIP."""
    for name, parameter in dual.named_parameters():
        if name.rsplit(".", 1)[-1] == "logit_scale":
            return parameter.exp().clamp(max=100)
    return 1 / temperature
