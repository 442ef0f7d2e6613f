"""A map as a segmentation of the object: pixel accuracy, mean IoU, average precision."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from quantus.helpers.enums import EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_ib.checks import require_choice
from captum_ib.metrics.base import Samples, TorchMetric, constant, pixel_maps
from captum_ib.metrics.selection import min_max, united_masks


class Segmentation(TorchMetric):
    """What the three share: a map against masks, as Chefer et al. (CVPR 2021) and LibraGrad do.

    ``s_batch`` holds the mask(s), ``(N, H, W)`` or ``(N, K, H, W)``, nonzero on the object; K masks
    of a sample are united. A pixel is object where the map is above its own mean. ``model`` may be
    None where ``a_batch`` is given.

    Papers print the pixels of the whole data set at once (accuracy and mean IoU), or the mean over
    images (AP). A call returns one number per sample; ``pooled`` holds the papers' number.

    Args:
        kwargs: see ``TorchMetric``.

    Attributes:
        pooled: the score of all samples of the last call that have one, together.

    Raises:
        ValueError: no masks or masks of another size; an empty mask or a constant map (see
            ``undefined``).
    """

    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.LOCALISATION

    def _begin(self) -> None:
        self._counts: list[Tensor] = []
        self.pooled = float("nan")

    def custom_postprocess(self, **kwargs: Any) -> None:
        """The score of all batches together."""
        counts = torch.cat(self._counts)
        if len(counts):
            self.pooled = float(self._score(counts.sum(0, keepdim=True)))

    def _evaluate(self, samples: Samples) -> list[float]:
        maps = pixel_maps(samples.a, samples.x, self.name)
        masks = united_masks(samples.s, maps, self.name)
        bad = ~masks.any(1) | constant(maps)
        self._undefined(~masks.any(1), "an empty mask")
        self._undefined(constant(maps), "a constant attribution")
        counts = self._counted(maps.flatten(1), masks)
        self._counts.append(counts[~bad])
        return self._score(counts).masked_fill(bad, torch.nan).tolist()

    def _counted(self, values: Tensor, masks: Tensor) -> Tensor:
        """Pixels ``(N, 4)``: object found, object missed, ground found to be object, ground."""
        chosen = values > values.mean(1, keepdim=True)
        kinds = (chosen & masks, ~chosen & masks, chosen & ~masks, ~chosen & ~masks)
        return torch.stack([kind.sum(1).double() for kind in kinds], 1)

    def _score(self, counts: Tensor) -> Tensor:
        """Scores ``(N,)`` of rows of counts."""
        raise NotImplementedError


class PixelAccuracy(Segmentation):
    """The share of pixels on the right side of the map's mean, in [0, 1]; higher is better.

    See ``Segmentation``.

    >>> mask = np.zeros((1, 1, 4, 4)); mask[..., :1, :] = 1
    >>> given = (None, np.zeros((1, 3, 4, 4)), np.array([0]))
    >>> PixelAccuracy()(*given, mask, mask), PixelAccuracy()(*given, -mask, mask)
    ([1.0], [0.0])
    """

    name = "Pixel Accuracy"

    def _score(self, counts: Tensor) -> Tensor:
        return (counts[:, 0] + counts[:, 3]) / counts.sum(1)


class MeanIoU(Segmentation):
    """The mean of object's and ground's intersection over union, in [0, 1]; higher is better.

    A mask that covers the whole picture has no ground: its score is the object's IoU. See
    ``Segmentation``.
    """

    name = "Mean IoU"

    def _score(self, counts: Tensor) -> Tensor:
        hit, missed, wrong, ground = counts.T
        unions = torch.stack([hit + missed + wrong, missed + wrong + ground], 1)
        # No union: the class is neither there nor found, and has no score to average.
        return (torch.stack([hit, ground], 1) / unions).nanmean(1)


class AveragePrecision(Segmentation):
    """Average precision of the map as a ranking of pixels, in [0, 1]; higher is better.

    Σ (R_k − R_{k−1}) P_k over the map's distinct values, as scikit-learn computes it. ``pooled`` is
    the mean over samples, as the papers have it.

    Args:
        of: ``"both"``, as Chefer et al. and LibraGrad: the min–max-scaled map r ranks the object's
            pixels and 1 − r the ground's, in one list of 2·H·W, so an inverted mask scores 0.5; or
            ``"object"``: the object's pixels alone, where a random map scores the mask's share.
        kwargs: see ``TorchMetric``.
    """

    name = "Average Precision"

    def __init__(self, *, of: Literal["both", "object"] = "both", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_choice("of", of, ("both", "object"))
        self.of = of

    def custom_postprocess(self, **kwargs: Any) -> None:
        """The mean over the samples of all batches."""
        scores = torch.cat(self._counts)
        self.pooled = float(scores.mean()) if len(scores) else float("nan")

    def _counted(self, values: Tensor, masks: Tensor) -> Tensor:
        scaled = min_max(values)
        if self.of == "both":
            scaled, masks = torch.cat([scaled, 1 - scaled], 1), torch.cat([masks, ~masks], 1)
        rows = zip(scaled.numpy(), masks.numpy(), strict=True)
        return torch.tensor([average_precision(*row) for row in rows], dtype=torch.float64)

    def _score(self, counts: Tensor) -> Tensor:
        return counts


def average_precision(values: np.ndarray, truth: np.ndarray) -> float:
    """Σ (R_k − R_{k−1}) P_k, precision and recall at each distinct value from above; ties at once.

    Args:
        values: ``(P,)``.
        truth: ``(P,)`` bool.

    Returns:
        In (0, 1]; NaN without a true position, or where a value is NaN.

    >>> average_precision(np.array([0.9, 0.5, 0.1]), np.array([True, False, True]))
    0.8333333333333333
    """
    if not truth.any() or np.isnan(values).any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)
    found = np.cumsum(truth[order])[ends]
    recall = found / found[-1]
    return float((np.diff(recall, prepend=0.0) * found / (ends + 1)).sum())
