"""How well the most important positions cover what the ground truth marks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from quantus.helpers.enums import EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_ib.metrics.base import Samples, TorchMetric, constant, pixel_maps
from captum_ib.metrics.selection import above_quantile


class LocalizationIoU(TorchMetric):
    """Intersection over union of {attribution above a threshold} with the mask; higher is better.

    ``s_batch`` holds the mask(s): ``(N, H, W)`` or ``(N, K, H, W)``, nonzero on the object; the K
    masks of a sample are united. Score: IoU in [0, 1]. ``model`` may be None where ``a_batch`` is
    given.

    The expectation for a map of i.i.d. noise is that of X/(k + m − X), X hypergeometric, k selected
    and m marked pixels: about pf/(p + f − pf) for shares p = k/P and f = m/P, for instance 0.111 at
    p = 0.25, f = 1/6.

    Args:
        quantile: the threshold is this quantile of the sample's own map (0.75, the default, unless
            ``value`` is given). Where the quantile equals the map's maximum, the positions that
            reach the maximum are taken: an attribution equal to its mask always has IoU 1.
        value: the threshold is this number, for every sample; nothing above it is an IoU of 0.
        kwargs: see ``TorchMetric``.

    Raises:
        ValueError: no masks or masks of another size; an empty mask or a constant map (see
            ``undefined``); both ``quantile`` and ``value``.

    >>> import numpy as np
    >>> mask = np.zeros((1, 1, 4, 4)); mask[..., :2, :] = 1
    >>> metric = LocalizationIoU()
    >>> metric(None, np.zeros((1, 3, 4, 4)), np.array([0]), a_batch=mask, s_batch=mask)
    [1.0]
    """

    name = "Localization IoU"
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.LOCALISATION

    def __init__(
        self, *, quantile: float | None = None, value: float | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if quantile is not None and value is not None:
            raise ValueError("the threshold is either a quantile or a value, not both")
        self.quantile = 0.75 if quantile is None else quantile
        if not 0 <= self.quantile < 1:
            raise ValueError(f"a quantile lies in [0, 1), given {quantile}")
        self.value = value

    def _evaluate(self, samples: Samples) -> list[float]:
        maps = pixel_maps(samples.a, samples.x, self.name)
        masks = united(samples.s, maps, self.name)
        empty, flat = ~masks.any(1), constant(maps)
        self._undefined(empty, "an empty mask")
        self._undefined(flat, "a constant attribution")
        values = maps.flatten(1)
        if self.value is not None:
            chosen = values > self.value
        else:
            chosen = above_quantile(values, self.quantile)
        both = (chosen & masks).sum(1).double()
        scores = both / (chosen | masks).sum(1)
        return scores.masked_fill(empty | flat, torch.nan).tolist()


def united(masks: np.ndarray | None, maps: Tensor, metric: str) -> Tensor:
    """What any of a sample's masks marks, ``(N, P)`` of bool.

    Raises:
        ValueError: none were given, or they are not of the maps' size.
    """
    if masks is None:
        raise ValueError(f"{metric} compares with masks; pass s_batch of (N, H, W)")
    marked = torch.from_numpy(np.asarray(masks) != 0)
    if marked.ndim == 4:
        marked = marked.any(1)
    if marked.shape != maps.shape:
        raise ValueError(
            f"s_batch of shape {np.shape(masks)} does not fit; expected (N, H, W) or "
            f"(N, K, H, W) with (N, H, W) = {tuple(maps.shape)}"
        )
    return marked.flatten(1)
