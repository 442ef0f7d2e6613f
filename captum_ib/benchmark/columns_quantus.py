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
from captum_ib.benchmark.reader import Logits
from captum_ib.metrics.road import Order

QUIET = {"disable_warnings": True}


class Located(Column):
    """Metrics that compare with the mask; NaN for a sample without one."""

    def _make(self) -> Any:
        if self.config.metric == "iou":
            return metrics.LocalizationIoU(undefined="nan", **self.options)
        if self.config.metric == "ehr":
            return metrics.EffectiveHeatRatio(undefined="nan", **self.options)
        pointing = self.config.metric == "pointing_game"
        cls = quantus.PointingGame if pointing else quantus.RelevanceRankAccuracy
        return cls(normalise=False, **QUIET, **self.options)

    def _scores(self, case: Case) -> np.ndarray:
        result = np.full(len(case.subjects), np.nan)
        rows = np.flatnonzero(case.subjects.truth.any((1, 2)))
        if len(rows):
            masks, maps = case.subjects.truth[rows][:, None], case.a[rows]
            maps = maps if self.config.metric in ("iou", "ehr") else above_zero(maps)
            found = self.call(self._make(), case.x[rows], case.y[rows], maps, s_batch=masks)
            result[rows] = np.asarray(found, dtype=float)
        return result


class Sparseness(Column):
    """The Gini index of the absolute map (Chalasani et al., ICML 2020)."""

    def _make(self) -> Any:
        return quantus.Sparseness(abs=True, normalise=True, **QUIET, **self.options)

    def _scores(self, case: Case) -> np.ndarray:
        return np.array(self.call(self._make(), case.x, case.y, np.abs(case.a)))


class Alone(Column):
    """Metrics that draw noise: every sample by itself, with noise that its id decides."""

    def _scores(self, case: Case) -> np.ndarray:
        found = []
        for row, name in enumerate(case.subjects.ids):
            with numpy_seed(seed_of(self.config.metric, name)):
                found.append(self._score(case.alone(row)))
        return np.array(found)

    @abstractmethod
    def _score(self, case: Case) -> float:
        """The score of the only sample."""


class Road(Column):
    """ROAD: the accuracy left, mean over the percentages; in [0, 1], ΔROAD in [−1, 1]."""

    def _make(self, order: Order = "morf") -> Any:
        lists = {key: list(value) for key, value in self.options.items() if key == "percentages"}
        return metrics.ROAD(**QUIET, **{**self.options, **lists}, order=order)

    def _scores(self, case: Case) -> np.ndarray:
        if self.config.metric == "road":
            return self._left(case, "morf")
        left = self._left(case, "lerf")
        return left if self.config.metric == "road_lerf" else left - self._left(case, "morf")

    def _left(self, case: Case, order: Order) -> np.ndarray:
        """Accuracies; what a column of the same settings found is not computed again."""
        key = (f"road_{order}", tuple(sorted(self.options.items())))
        if key not in case.known:
            noise = "road" if order == "morf" else "road_lerf"
            found = [
                self._accuracy(case.alone(row), order, seed_of(noise, name))
                for row, name in enumerate(case.subjects.ids)
            ]
            case.known[key] = np.array(found), np.empty(0)
        return case.known[key][0]

    def _accuracy(self, case: Case, order: Order, seed: int) -> float:
        model = Logits(self.reader.model)
        with numpy_seed(seed):
            found = self.call(self._make(order), case.x, case.y, case.a, model=model)
        return float(np.mean(list(found.values())))


class MaxSensitivity(Alone):
    """The largest relative change of the map under uniform noise, of 10 draws unless given."""

    def _make(self) -> Any:
        return quantus.MaxSensitivity(**{"nr_samples": 10, **QUIET, **self.options})

    def _score(self, case: Case) -> float:
        found = self.call(self._make(), case.x, case.y, case.a, explain_func=_again(case))
        return float(found[0])


class CompletenessGap(Alone):
    """|Σ map − (F(x) − F(baseline))|, with Quantus' baseline and predictions (logits).

    Quantus itself only says whether the two are equal to the last bit, which they never are.
    """

    def _make(self, keep: Callable[[np.ndarray], np.ndarray] | None = None) -> Any:
        return quantus.Completeness(normalise=False, output_func=keep, **QUIET, **self.options)

    def _score(self, case: Case) -> float:
        falls: list[np.ndarray] = []

        def keep(fall: np.ndarray) -> np.ndarray:
            falls.append(fall)
            return fall

        # What the map is does not matter here, but its shape does: with one value per pixel
        # Quantus would only replace the first channel.
        shifted = np.repeat(above_zero(case.a), case.x.shape[1], axis=1)
        model = Logits(self.reader.model)
        self.call(self._make(keep), case.x, case.y, shifted, softmax=False, model=model)
        return abs(float(case.maps.image.double().sum()) - float(np.ravel(falls[0])[0]))


class Randomised(Column):
    """MPRT: rank correlation with the maps of models whose layers are drawn anew.

    Mean over the layers; the first entry, the model itself, is left out.
    """

    def _make(self) -> Any:
        return quantus.MPRT(**QUIET, **self.options)

    def _scores(self, case: Case) -> np.ndarray:
        with torch.random.fork_rng(devices=[]):  # it seeds the global generator
            found = self.call(self._make(), case.x, case.y, case.a, explain_func=_again(case))
        return np.mean([values for name, values in found.items() if name != "original"], axis=0)


def above_zero(maps: np.ndarray) -> np.ndarray:
    """Maps moved so that the smallest value is 0: Quantus refuses those that are negative."""
    return maps - maps.min((1, 2, 3), keepdims=True)


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
