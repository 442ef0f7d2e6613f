"""The metrics of Quantus as columns: one number per sample, whatever samples are beside it."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import quantus
import torch
from torch import nn

from captum_ib import metrics
from captum_ib.benchmark.columns import Case, Column
from captum_ib.benchmark.explainers import seed_of


class Located(Column):
    """Metrics that compare with the mask; NaN for a sample without one."""

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        result = np.full(len(case.subjects), np.nan)
        rows = np.flatnonzero(case.subjects.truth.any((1, 2)))
        if len(rows):
            masks = case.subjects.truth[rows][:, None]
            result[rows] = self._located(case.x[rows], case.y[rows], case.a[rows], masks)
        return result

    def _located(self, x: np.ndarray, y: np.ndarray, a: np.ndarray, masks: np.ndarray) -> Any:
        quiet: dict[str, Any] = {"disable_warnings": True}
        name = self.config.metric
        if name == "iou":
            metric: Any = metrics.LocalizationIoU(undefined="nan", **self.options)
            return self.call(metric, x, y, a, s_batch=masks)
        cls: Any = {
            "pointing_game": quantus.PointingGame,
            "relevance_rank": quantus.RelevanceRankAccuracy,
        }[name]
        # Ranks alone count, and Quantus refuses maps that are negative throughout.
        metric = cls(normalise=False, **quiet, **self.options)
        return np.asarray(
            self.call(metric, x, y, a - a.min((1, 2, 3), keepdims=True), s_batch=masks), float
        )


class Sparseness(Column):
    """The Gini index of the absolute map (Chalasani et al., ICML 2020), by Quantus."""

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        metric = quantus.Sparseness(abs=True, normalise=True, disable_warnings=True, **self.options)
        return np.array(self.call(metric, case.x, case.y, np.abs(case.a)))


class Alone(Column):
    """Metrics that draw noise: every sample by itself, with noise that its id decides."""

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        found = []
        for row, name in enumerate(case.subjects.ids):
            with numpy_seed(seed_of(self.config.metric, name)):
                found.append(self._score(case.alone(row)))
        return np.array(found)

    @abstractmethod
    def _score(self, case: Case) -> float:
        """The score of the only sample."""


class Road(Alone):
    """ROAD: the accuracy left, mean over the percentages; in [0, 1]."""

    def _score(self, case: Case) -> float:
        options = {**self.options}
        if "percentages" in options:
            options["percentages"] = list(options["percentages"])
        metric = metrics.ROAD(disable_warnings=True, **options)
        return float(np.mean(list(self.call(metric, case.x, case.y, case.a).values())))


class MaxSensitivity(Alone):
    """The largest relative change of the map under uniform noise, by Quantus."""

    def _score(self, case: Case) -> float:
        metric = quantus.MaxSensitivity(
            **{"nr_samples": 10, "disable_warnings": True, **self.options}
        )
        return float(self.call(metric, case.x, case.y, case.a, explain_func=_again(case))[0])


class CompletenessGap(Column):
    """|Σ map − (F(x) − F(baseline))|, with Quantus' baseline and predictions (logits).

    Quantus itself only says whether the two are equal to the last bit, which they never are.
    """

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        drops: list[np.ndarray] = []

        def keep(drop: np.ndarray) -> np.ndarray:
            drops.append(drop)
            return drop

        metric = quantus.Completeness(
            normalise=False, output_func=keep, disable_warnings=True, **self.options
        )
        # What the map is does not matter here, but Quantus refuses negative ones.
        shifted = case.a - case.a.min((1, 2, 3), keepdims=True)
        metric(
            self.setting.model,
            case.x,
            case.y,
            a_batch=shifted,
            softmax=False,
            device=self.setting.device,
            batch_size=len(case.x),
        )
        sums = case.maps.image.sum((1, 2, 3)).double().numpy()
        return np.abs(sums - drops[0].astype(float))


class Randomised(Column):
    """MPRT: rank correlation with the maps of models whose layers are drawn anew, by Quantus.

    Mean over the layers; the first entry, the model itself, is left out.
    """

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        metric = quantus.MPRT(**{"disable_warnings": True, **self.options})
        with torch.random.fork_rng(devices=[]):  # it seeds the global generator
            found: Any = metric(
                self.setting.model,
                case.x,
                case.y,
                a_batch=case.a,
                explain_func=_again(case),
                device=self.setting.device,
                batch_size=len(case.x),
            )
        layers = [values for name, values in found.items() if name != "original"]
        return np.mean(layers, axis=0)


def _again(case: Case) -> Callable[..., np.ndarray]:
    """What Quantus calls to explain other pictures, or on another model."""

    def explain(model: nn.Module, inputs: np.ndarray, targets: Any, **kwargs: Any) -> np.ndarray:
        like = case.subjects.pixels
        pixels = torch.as_tensor(inputs).to(like.device, like.dtype)
        return case.remake(case.subjects.with_pixels(pixels), model).at(pixels.shape[2:])

    return explain


@contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """NumPy's global generator, which Quantus draws from, from a seed; restored at the end."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
