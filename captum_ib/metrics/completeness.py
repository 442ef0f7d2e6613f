"""Completeness error: how far the attributions are from summing to what the output changes by."""

from __future__ import annotations

from typing import Any

import torch
from quantus.helpers.enums import EvaluationCategory, ScoreDirection

from captum_ib.metrics.base import Samples, TorchMetric, check_array, require_both
from captum_ib.metrics.fills import Numbers, black
from captum_ib.metrics.scorer import Activation, Scorer, require_activation


class CompletenessError(TorchMetric):
    """``|Σ a − (f(x) − f(b))|``, over ``|f(x) − f(b)|`` unless ``relative=False``; lower is better.

    The axiom of Sundararajan et al. (ICML 2017), as a number: 0 for a complete attribution, 1 for
    one that sums to 0. ``quantus.Completeness`` only says whether the two are equal. Call with
    ``softmax=False``: attributions of logits don't sum to probabilities. Maps that were upsampled
    sum to another number than their layer's: see ``explain_func(conserve=True)``.

    Args:
        relative: divide by ``|f(x) − f(b)|``.
        mean: per-channel mean that preprocessing subtracted; with ``std``, it tells what black is.
        std: per-channel standard deviation that preprocessing divided by.
        baseline: b instead of black, in units of the model's input: a number or one per channel.
        modality: for a dual encoder, which of its modalities the images are (its first).
        activation: how a classifier's outputs become probabilities; see ``Insertion``.
        kwargs: see ``TorchMetric``.

    Raises:
        ValueError: images with negative values and nothing that says what black is; with
            ``relative``, a sample whose output is that of the baseline (see ``undefined``).
    """

    name = "Completeness Error"
    score_direction = ScoreDirection.LOWER
    evaluation_category = EvaluationCategory.AXIOMATIC

    def __init__(
        self,
        *,
        relative: bool = True,
        mean: Numbers = None,
        std: Numbers = None,
        baseline: Numbers = None,
        modality: str | None = None,
        activation: Activation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_both(mean, std)
        self.relative, self.modality = relative, modality
        self.mean, self.std, self.baseline = mean, std, baseline
        self.activation: Activation | None = require_activation(activation)

    def _evaluate(self, samples: Samples) -> list[float]:
        check_array("the attribution", samples.a)
        scorer = Scorer(samples.model, samples.y, self.modality, activation=self.activation)
        images = scorer.input(samples.x)
        empty = black(images, self.mean, self.std, self.baseline, self.name)
        change = (scorer(images).double() - scorer(empty).double()).cpu()
        total = torch.from_numpy(samples.a).double().flatten(1).sum(1)
        error = (total - change).abs()
        if not self.relative:
            return error.tolist()
        none = change == 0
        self._undefined(none, "an output that is the baseline's")
        return (error / change.abs()).masked_fill(none, torch.nan).tolist()
