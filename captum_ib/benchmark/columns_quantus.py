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
from captum_ib.metrics.scorer import model_input

QUIET = {"disable_warnings": True}


class Located(Column):
    """Metrics that compare with the mask; NaN for a sample without one."""

    def make(self) -> Any:
        """The metric; ranks alone count for Quantus' two."""
        if self.config.metric == "iou":
            return metrics.LocalizationIoU(undefined="nan", **self.options)
        ranked: dict[str, Any] = {
            "pointing_game": quantus.PointingGame,
            "relevance_rank": quantus.RelevanceRankAccuracy,
        }
        return ranked[self.config.metric](normalise=False, **QUIET, **self.options)

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        result = np.full(len(case.subjects), np.nan)
        rows = np.flatnonzero(case.subjects.truth.any((1, 2)))
        if len(rows):
            masks, maps = case.subjects.truth[rows][:, None], case.a[rows]
            if self.config.metric != "iou":
                maps = above_zero(maps)
            found = self.call(self.make(), case.x[rows], case.y[rows], maps, s_batch=masks)
            result[rows] = np.asarray(found, dtype=float)
        return result


class Sparseness(Column):
    """The Gini index of the absolute map (Chalasani et al., ICML 2020)."""

    def make(self) -> Any:
        """The metric."""
        return quantus.Sparseness(abs=True, normalise=True, **QUIET, **self.options)

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        return np.array(self.call(self.make(), case.x, case.y, np.abs(case.a)))


class Alone(Column):
    """Metrics that draw noise: every sample by itself, with noise that its id decides."""

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        found = []
        for row, name in enumerate(case.subjects.ids):
            with numpy_seed(seed_of(self.config.metric, name)):
                found.append(self.score(case.alone(row)))
        return np.array(found)

    @abstractmethod
    def score(self, case: Case) -> float:
        """The score of the only sample."""


class Road(Alone):
    """ROAD: the accuracy left, mean over the percentages; in [0, 1]."""

    def make(self) -> Any:
        """The metric."""
        options = dict(self.options)
        if "percentages" in options:
            options["percentages"] = list(options["percentages"])
        return metrics.ROAD(**QUIET, **options)

    def score(self, case: Case) -> float:
        """See :class:`Alone`."""
        model = Single(self.setting.model)
        found = self.call(self.make(), case.x, case.y, case.a, model=model)
        return float(np.mean(list(found.values())))


class MaxSensitivity(Alone):
    """The largest relative change of the map under uniform noise, of 10 draws unless given."""

    def make(self) -> Any:
        """The metric."""
        return quantus.MaxSensitivity(**{"nr_samples": 10, **QUIET, **self.options})

    def score(self, case: Case) -> float:
        """See :class:`Alone`."""
        found = self.call(self.make(), case.x, case.y, case.a, explain_func=_again(case))
        return float(found[0])


class CompletenessGap(Alone):
    """|Σ map − (F(x) − F(baseline))|, with Quantus' baseline and predictions (logits).

    Quantus itself only says whether the two are equal to the last bit, which they never are.
    """

    def make(self, keep: Callable[[np.ndarray], np.ndarray] | None = None) -> Any:
        """The metric, which shows ``keep`` the fall of the prediction."""
        return quantus.Completeness(normalise=False, output_func=keep, **QUIET, **self.options)

    def score(self, case: Case) -> float:
        """See :class:`Alone`."""
        falls: list[np.ndarray] = []

        def keep(fall: np.ndarray) -> np.ndarray:
            falls.append(fall)
            return fall

        x = case.x
        # What the map is does not matter here, but its shape does: with one value per pixel
        # Quantus would only replace the first channel.
        shifted = np.repeat(above_zero(case.a), x.shape[1], axis=1)
        model = Single(self.setting.model)
        self.call(self.make(keep), x, case.y, shifted, softmax=False, model=model)
        return abs(float(case.maps.image.double().sum()) - float(np.ravel(falls[0])[0]))


class Randomised(Column):
    """MPRT: rank correlation with the maps of models whose layers are drawn anew.

    Mean over the layers; the first entry, the model itself, is left out.
    """

    def make(self) -> Any:
        """The metric."""
        return quantus.MPRT(**QUIET, **self.options)

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        with torch.random.fork_rng(devices=[]):  # it seeds the global generator
            found = self.call(self.make(), case.x, case.y, case.a, explain_func=_again(case))
        layers = [values for name, values in found.items() if name != "original"]
        return np.mean(layers, axis=0)


class Single(nn.Module):
    """A classifier of any precision that takes and gives float32 tensors, as Quantus expects.

    Args:
        model: images to logits, as a tensor or in a ``ModelOutput``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.training = model.training

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits ``(N, classes)``, float32."""
        output = self.model(model_input(pixels, self.model))
        return getattr(output, "logits", output).float()


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
