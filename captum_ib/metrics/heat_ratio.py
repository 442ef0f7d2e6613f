"""How much of the heat lies on what the ground truth marks, whatever threshold cuts it out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from quantus.helpers.enums import EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_ib.checks import require_count
from captum_ib.metrics.base import Samples, TorchMetric, constant, pixel_maps
from captum_ib.metrics.selection import min_max, united_masks

_PEAK = 0.99
"""The highest cut: at the largest value itself a single pixel would be the whole answer."""


class EffectiveHeatRatio(TorchMetric):
    """EHR, the effective heat ratios of InputIBA (Zhang et al., NeurIPS 2021); higher is better.

    The map is scaled to [0, 1]. A cut t(q) is the q-quantile of the values that reach
    ``threshold``, at most 0.99; the ratio at q is the heat on the mask, Σ over {h ≥ t, mask} of h,
    over the number of pixels with h ≥ t. The score is the area under the ratios for q = 0, 0.1,
    0.2, …, 1 (trapezoid rule), in [0, 1]: 1 for a map that is 1 on the mask and 0 elsewhere, 0 for
    one whose hot pixels all lie beside it. CoIBA's authors' code reports it for localisation.

    ``s_batch`` holds the mask(s): ``(N, H, W)`` or ``(N, K, H, W)``, nonzero on the object; the K
    masks of a sample are united. ``model`` may be None where ``a_batch`` is given.

    Args:
        threshold: values below it are left out (InputIBA's code: 0.1).
        quantiles: how many, evenly from 0 to 1 (InputIBA's code: 11).
        kwargs: see ``TorchMetric``.

    Raises:
        TypeError: ``quantiles`` is no int.
        ValueError: a threshold outside (0, 1], fewer than two quantiles; no masks or masks of
            another size; an empty mask or a constant map (see ``undefined``).

    >>> import numpy as np
    >>> mask = np.zeros((1, 1, 4, 4)); mask[..., :2, :] = 1
    >>> metric = EffectiveHeatRatio()
    >>> metric(None, np.zeros((1, 3, 4, 4)), np.array([0]), a_batch=mask, s_batch=mask)
    [1.0]
    """

    name = "Effective heat ratio"
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.LOCALISATION

    def __init__(self, *, threshold: float = 0.1, quantiles: int = 11, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, given {threshold}")
        require_count("quantiles", quantiles)
        if quantiles < 2:
            raise ValueError(f"an area needs at least 2 quantiles, given {quantiles}")
        self.threshold, self.quantiles = threshold, quantiles

    def _evaluate(self, samples: Samples) -> list[float]:
        maps = pixel_maps(samples.a, samples.x, self.name)
        masks = united_masks(samples.s, maps, self.name)
        empty, flat = ~masks.any(1), constant(maps)
        self._undefined(empty, "an empty mask")
        self._undefined(flat, "a constant attribution")
        rows = zip(min_max(maps).flatten(1), masks, empty | flat, strict=True)
        return [float("nan") if none else self._area(heat, mask) for heat, mask, none in rows]

    def _area(self, heat: Tensor, mask: Tensor) -> float:
        """The area of one map ``(P,)`` in [0, 1], whose largest value is 1."""
        levels = torch.linspace(0, 1, self.quantiles, dtype=heat.dtype)
        # NumPy's quantile has no limit on the number of values, torch's has.
        cuts = np.quantile(heat[heat >= self.threshold].numpy(), levels.numpy())
        hot = heat >= torch.from_numpy(cuts).clamp_max(_PEAK).unsqueeze(1)
        ratios = (hot & mask).to(heat.dtype) @ heat / hot.sum(1)
        # The trapezoid rule on even steps, exact where all ratios are equal.
        return float((ratios.sum() - (ratios[0] + ratios[-1]) / 2) / (self.quantiles - 1))
