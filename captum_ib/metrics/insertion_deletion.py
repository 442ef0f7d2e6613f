"""Insertion and Deletion: the prediction as pixels come or go in order of their attribution."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from quantus.helpers.enums import EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_ib.metrics.base import (
    Samples,
    TorchMetric,
    constant,
    pixel_maps,
    require_both,
)
from captum_ib.metrics.fills import black
from captum_ib.metrics.scorer import Activation, Scorer, require_activation


class PerturbationCurve(TorchMetric):
    """RISE's protocol (Petsiuk et al., BMVC 2018): what Insertion and Deletion share.

    Pixels are ranked by the attribution summed over channels, ties in reading order. The area is
    the trapezoid rule over the share of pixels, times 100.

    Args:
        mean: per-channel mean that preprocessing subtracted; with ``std``, it tells what black is.
        std: per-channel standard deviation that preprocessing divided by.
        baseline: what deleted pixels become, in units of the model's input: a number or one per
            channel. Unless given: black in pixel space, −mean/std.
        steps: number of steps; each changes ⌈H·W/steps⌉ pixels. 28 steps are 3.57 % each, the
            8·width pixels of the protocol on 224×224 images.
        kernel: side of the Gaussian blur that insertion starts from, in pixels (51); cut to
            2·side − 1 for images smaller than that.
        sigma: its standard deviation in pixels (50).
        return_curves: return the curves ``(steps + 1,)`` per sample instead of their areas.
        modality: for a dual encoder, which of its modalities the images are (its first).
        activation: how a classifier's outputs become probabilities: ``"softmax"``, ``"sigmoid"``
            (heads with several labels) or ``"none"`` (the model ends in one). Unless given, as the
            call's ``softmax=`` says: softmax, of a single logit (target 0) its sigmoid.
        kwargs: see ``TorchMetric``.

    Attributes:
        curves: ``(N, steps + 1)``, the scores along the last call's steps, both ends included; NaN
            rows for undefined samples.

    Raises:
        ValueError: images to be turned black that have negative values, while neither ``mean`` and
            ``std`` nor ``baseline`` say what black is; a constant map (see ``undefined``).
    """

    evaluation_category = EvaluationCategory.FAITHFULNESS

    def __init__(
        self,
        *,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        baseline: float | Sequence[float] | None = None,
        steps: int = 28,
        kernel: int = 51,
        sigma: float = 50.0,
        return_curves: bool = False,
        modality: str | None = None,
        activation: Activation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_both(mean, std)
        if mean is not None and baseline is not None:
            raise ValueError("give either mean and std (black) or baseline, not both")
        if steps < 1:
            raise ValueError(f"steps must be at least 1, given {steps}")
        if kernel < 1 or kernel % 2 == 0 or sigma <= 0:
            raise ValueError(
                f"a blur needs an odd kernel and a sigma above 0, given {kernel} and {sigma}"
            )
        if return_curves and self.return_aggregate:
            raise ValueError("return_curves and return_aggregate exclude each other")
        self.mean, self.std, self.baseline = mean, std, baseline
        self.steps, self.kernel, self.sigma = steps, kernel, sigma
        self.return_curves, self.modality = return_curves, modality
        self.activation: Activation | None = require_activation(activation)
        self.curves = np.empty((0, 0))

    def _begin(self) -> None:
        self._rows: list[np.ndarray] = []

    def custom_postprocess(self, **kwargs: Any) -> None:
        """Join the batches' curves."""
        self.curves = np.concatenate(self._rows)

    def _evaluate(self, samples: Samples) -> list:
        maps = pixel_maps(samples.a, samples.x, self.name)
        undefined, n_pixels = constant(maps), maps[0].numel()
        self._undefined(undefined, "a constant attribution, which ranks no pixel")
        scorer = Scorer(samples.model, samples.y, self.modality, activation=self.activation)
        images, ranks = scorer.input(samples.x), rank_pixels(maps).to(scorer.device)
        curves = [self._walk(scorer, ranks, *ends) for ends in self._ends(images)]
        for curve in curves:
            curve[undefined] = torch.nan
        shares = self._counts(n_pixels).double() / n_pixels
        areas = [100 * torch.trapezoid(curve, shares, dim=1) for curve in curves]
        curve, area = self._result(curves, areas)
        self._rows.append(curve.numpy())
        return list(curve.numpy()) if self.return_curves else area.tolist()

    @abstractmethod
    def _ends(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """What each walk starts from and ends at, ``(N, C, H, W)``."""

    def _result(self, curves: list[Tensor], areas: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Curves and areas from those of the walks."""
        return curves[0], areas[0]

    def _walk(self, scorer: Scorer, ranks: Tensor, start: Tensor, end: Tensor) -> Tensor:
        """Scores ``(N, steps + 1)`` while ``start`` turns into ``end``, best pixels first."""
        scores = [scorer(start)]
        for count in self._counts(ranks[0].numel())[1:-1]:
            scores.append(scorer(torch.where((ranks < count)[:, None], end, start)))
        scores.append(scorer(end))
        return torch.stack(scores, 1).double().cpu()

    def _counts(self, n_pixels: int) -> Tensor:
        """How many pixels are changed after each step, none and all included."""
        step = math.ceil(n_pixels / self.steps)
        return (torch.arange(math.ceil(n_pixels / step) + 1) * step).clamp(max=n_pixels)

    def _blurred(self, images: Tensor) -> Tensor:
        return gaussian_blur(images, self.kernel, self.sigma)

    def _black(self, images: Tensor) -> Tensor:
        return black(images, self.mean, self.std, self.baseline, self.name)


class Deletion(PerturbationCurve):
    """Area under the score while pixels turn black, most important first; lower is better.

    Score: probability of the target, in percent (a dual encoder: 100 · cosine).
    Arguments: see ``PerturbationCurve``.

    >>> import numpy as np, torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    >>> x = np.random.default_rng(0).random((3, 1, 4, 4)).astype("float32")
    >>> metric = Deletion(steps=4)
    >>> scores = metric(model, x, np.array([0, 1, 0]), a_batch=x)
    >>> len(scores), metric.curves.shape
    (3, (3, 5))
    """

    name = "Deletion"
    score_direction = ScoreDirection.LOWER

    def _ends(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(images, self._black(images))]


class Insertion(PerturbationCurve):
    """Area under the score while pixels come into focus, most important first; higher is better.

    Starts from a Gaussian blur of the image. Score: probability of the target, in percent (a dual
    encoder: 100 · cosine). Arguments: see ``PerturbationCurve``.
    """

    name = "Insertion"
    score_direction = ScoreDirection.HIGHER

    def _ends(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(self._blurred(images), images)]


class InsertionMinusDeletion(PerturbationCurve):
    """ΔInsDel = Insertion − Deletion, per sample; higher is better.

    Arguments: see ``PerturbationCurve``; with ``return_curves=True`` a sample's curve is the
    difference of the two.

    Attributes:
        insertion: ``(N,)``, the insertion areas of the last call.
        deletion: ``(N,)``, its deletion areas.
    """

    name = "Insertion minus Deletion"
    score_direction = ScoreDirection.HIGHER

    def _begin(self) -> None:
        super()._begin()
        self.insertion, self.deletion = np.empty(0), np.empty(0)

    def _ends(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(self._blurred(images), images), (images, self._black(images))]

    def _result(self, curves: list[Tensor], areas: list[Tensor]) -> tuple[Tensor, Tensor]:
        self.insertion = np.concatenate([self.insertion, areas[0].numpy()])
        self.deletion = np.concatenate([self.deletion, areas[1].numpy()])
        return curves[0] - curves[1], areas[0] - areas[1]


def rank_pixels(maps: Tensor) -> Tensor:
    """0 for the pixel with the largest attribution, 1 for the next …; ties in reading order.

    Args:
        maps: ``(N, H, W)``.

    Returns:
        ``(N, H, W)`` of int64.

    >>> rank_pixels(torch.tensor([[[1.0, 3.0], [3.0, 2.0]]]))
    tensor([[[3, 0],
             [1, 2]]])
    """
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    ranks = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, ranks).view(maps.shape)


def gaussian_blur(images: Tensor, kernel: int = 51, sigma: float = 50.0) -> Tensor:
    """Gaussian blur with mirrored borders (the border pixel itself not repeated).

    Args:
        images: ``(N, C, H, W)``.
        kernel: odd side in pixels; cut to 2·side − 1 along a side shorter than that allows.
        sigma: standard deviation in pixels.

    Returns:
        ``(N, C, H, W)``.
    """
    rows = _blur_matrix(images.shape[-2], kernel, sigma).to(images)
    columns = _blur_matrix(images.shape[-1], kernel, sigma).to(images)
    # Separable and linear: two matrix products are much faster than a 51-tap convolution on CPU.
    return rows @ images @ columns.T


def _blur_matrix(size: int, kernel: int, sigma: float) -> Tensor:
    """``(size, size)``: row i holds the weights of every pixel in the blurred pixel i."""
    reach = min(kernel // 2, size - 1)
    offsets = torch.arange(-reach, reach + 1)
    weights = torch.exp(-0.5 * (offsets.double() / sigma) ** 2)
    weights = weights / weights.sum()
    source = (torch.arange(size)[:, None] + offsets).abs()
    source = torch.where(source >= size, 2 * (size - 1) - source, source)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    return matrix.scatter_add_(1, source, weights.expand(size, -1))
