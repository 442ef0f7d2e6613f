"""Confidence drop and increase: what a pair's score does when only what the map marks is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import torch
from quantus.helpers.enums import DataType, EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_ib.metrics.base import (
    Samples,
    TorchMetric,
    constant,
    per_channel,
    pixel_maps,
    require_both,
)
from captum_ib.metrics.scorer import Activation, Scorer, is_dual, require_activation, sides
from captum_ib.metrics.selection import content_values, min_max, top_tokens


class Confidence(TorchMetric):
    """What ConfidenceDrop and ConfidenceIncrease share: the scores before and after distilling.

    One modality of a pair is distilled, the other stays: an image (or any ``(N, C, H, W)`` input)
    becomes image × min–max-normalised map; a caption keeps its best tokens, its special tokens
    stay, the others become the blank token. In a call, ``x_batch`` is the distilled modality,
    ``a_batch`` its attribution, and ``y_batch`` the other modality's inputs; so the same arrays
    serve all metrics of a ``quantus.evaluate`` call. With a classifier instead of a dual encoder
    ``y_batch`` holds class indices and the score is the target's probability.

    Args:
        modality: the distilled modality, ``"image"``, ``"text"``, … (the dual encoder's first).
        special_tokens: ids that always stay and never count (begin, end, padding); needed for text.
        blank_token: id that replaces a removed token; needed for text.
        pad_token: id of padding, for dual encoders that can't tell it from the ids themselves
            (CLIP can).
        keep: share of the content tokens that stay, ⌈keep · n⌉ of n (0.5).
        mean: per-channel mean of the preprocessing; with ``std``, the map multiplies the picture in
            pixel space (what it darkens turns black). Unless given it multiplies the model's input,
            as pytorch-grad-cam's confidence-change metric does (towards the mean colour).
        std: per-channel standard deviation of the preprocessing.
        activation: how a classifier's outputs become probabilities: ``"softmax"``, ``"sigmoid"``
            (heads with several labels) or ``"none"`` (the model ends in one). Unless given, as the
            call's ``softmax=`` says: softmax, of a single logit (target 0) its sigmoid.
        kwargs: see ``TorchMetric``.

    Attributes:
        before: ``(N,)``, the scores of the last call's pairs.
        after: ``(N,)``, the scores after distilling; NaN for undefined samples.

    Raises:
        ValueError: a constant map, or a text without content tokens (see ``undefined``); text
            without ``special_tokens`` and ``blank_token``.
    """

    data_applicability = {DataType.IMAGE, DataType.TEXT}  # noqa: RUF012
    evaluation_category = EvaluationCategory.FAITHFULNESS

    def __init__(
        self,
        *,
        modality: str | None = None,
        special_tokens: Sequence[int] | None = None,
        blank_token: int | None = None,
        pad_token: int | None = None,
        keep: float = 0.5,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        activation: Activation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_both(mean, std)
        if not 0 < keep <= 1:
            raise ValueError(f"keep is the share of tokens that stay, in (0, 1]; given {keep}")
        self.modality, self.keep, self.mean, self.std = modality, keep, mean, std
        self.special_tokens, self.blank_token = special_tokens, blank_token
        self.pad_token = pad_token
        self.activation: Activation | None = require_activation(activation)
        self.before, self.after = np.empty(0), np.empty(0)

    def _begin(self) -> None:
        self.before, self.after = np.empty(0), np.empty(0)

    def _scores(self, samples: Samples) -> tuple[Tensor, Tensor]:
        """Scores before and after distilling, ``(N,)`` each; NaN after for undefined samples."""
        model, x, y, a, _ = samples
        module = model.get_model()
        scorer = Scorer(model, y, self.modality, x, self.pad_token, self.activation)
        inputs = scorer.input(x)
        if is_dual(module) and sides(module, self.modality)[0] == "text":
            changed, undefined = self._distilled_text(inputs, a, scorer)
        else:
            changed, undefined = self._distilled_image(inputs, x, a)
        before, after = scorer(inputs).double().cpu(), scorer(changed).double().cpu()
        after = after.masked_fill(undefined.cpu(), torch.nan)
        self.before = np.concatenate([self.before, before.numpy()])
        self.after = np.concatenate([self.after, after.numpy()])
        return before, after

    def _distilled_image(
        self, inputs: Tensor, x_batch: np.ndarray, a_batch: np.ndarray
    ) -> tuple[Tensor, Tensor]:
        maps = pixel_maps(a_batch, x_batch, self.name).to(inputs.device)
        undefined = constant(maps)
        self._undefined(undefined, "a constant attribution")
        scaled = min_max(maps).nan_to_num(0).to(inputs.dtype)[:, None]
        if self.mean is None or self.std is None:
            return inputs * scaled, undefined
        mean, std = per_channel(self.mean, inputs, "mean"), per_channel(self.std, inputs, "std")
        return ((inputs * std + mean) * scaled - mean) / std, undefined

    def _distilled_text(
        self, ids: Tensor, a_batch: np.ndarray, scorer: Scorer
    ) -> tuple[Tensor, Tensor]:
        values, content = content_values(
            ids, a_batch, self.special_tokens, self.blank_token, scorer.text_mask, self.name
        )
        undefined = ~content.any(1)
        self._undefined(undefined, "a text of special tokens only")
        kept = top_tokens(values, self.keep, content)
        return ids.masked_fill(content & ~kept, cast(int, self.blank_token)), undefined


class ConfidenceDrop(Confidence):
    """100 · max(0, o − s), o and s the score before and after distilling; lower is better.

    One score per sample. M2IB's and CA-M2IB's metric: the absolute drop, not Grad-CAM++'s relative
    one. See ``Confidence``.
    """

    name = "Confidence Drop"
    score_direction = ScoreDirection.LOWER

    def _evaluate(self, samples: Samples) -> list[float]:
        before, after = self._scores(samples)
        return (100 * (before - after).clamp(min=0)).tolist()


class ConfidenceIncrease(Confidence):
    """100 where the score rises by distilling, else 0; higher is better. The mean is a percentage.

    See ``Confidence``.
    """

    name = "Confidence Increase"
    score_direction = ScoreDirection.HIGHER

    def _evaluate(self, samples: Samples) -> list[float]:
        before, after = self._scores(samples)
        return (100 * (before < after).double()).masked_fill(after.isnan(), torch.nan).tolist()
