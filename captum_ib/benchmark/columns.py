"""A metric as a column of the table, one number per sample; those of :mod:`captum_ib.metrics`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from captum_ib import metrics
from captum_ib.benchmark.config import MetricConfig
from captum_ib.benchmark.explainers import Maps
from captum_ib.benchmark.subjects import Subjects
from captum_ib.benchmark.words import word_auc, word_share

Remake = Callable[[Subjects, nn.Module], Maps]
"""Explains other pictures, or on another model; for metrics that explain again."""


@dataclass(frozen=True)
class Setting:
    """What columns need to know of the model.

    Attributes:
        model: a classifier, or a ``DualEncoder``.
        device: torch device.
        mean: per channel, of the preprocessing.
        std: per channel, of the preprocessing.
        special: ids of tokens that stand for no text.
        blank: word → id of the token that replaces a removed one.
    """

    model: nn.Module
    device: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    special: tuple[int, ...] = ()
    blank: Callable[[str | None], int] | None = None


@dataclass
class Case:
    """What is judged: N samples and a method's maps of them.

    Attributes:
        subjects: the samples.
        maps: what the method said.
        remake: how to explain again.
        curves: curves by name of metric, left by those that have any.
        known: scores that another column may use, by metric and settings.
    """

    subjects: Subjects
    maps: Maps
    remake: Remake
    known: dict[Any, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def x(self) -> np.ndarray:
        """The pictures, ``(N, 3, H, W)`` float32."""
        return self.subjects.pixels.float().cpu().numpy()

    @property
    def y(self) -> np.ndarray:
        """The classes, or the captions' ids."""
        given = self.subjects.targets
        given = self.subjects.input_ids if given is None else given
        assert given is not None
        return given.cpu().numpy()

    @property
    def a(self) -> np.ndarray:
        """The images' maps at the images' size, ``(N, 1, H, W)``."""
        return self.maps.at(self.subjects.pixels.shape[2:])

    def alone(self, row: int) -> Case:
        """One of the samples."""
        return Case(self.subjects.part([row]), self.maps.part([row]), self.remake)


class Column(ABC):
    """A metric with its settings.

    Args:
        config: the metric, its label and settings.
        setting: the model.
    """

    def __init__(self, config: MetricConfig, setting: Setting) -> None:
        self.config, self.setting = config, setting
        self.options: dict[str, Any] = dict(config.settings)
        self.make()

    def make(self) -> Any:
        """A fresh metric: those of Quantus keep every score they ever gave.

        Raises:
            ValueError: a setting is out of range; it shows before anything is computed.
        """
        return None

    @abstractmethod
    def scores(self, case: Case) -> np.ndarray:
        """One number per sample, ``(N,)``; NaN where there is none."""

    def curves(self, case: Case) -> np.ndarray | None:
        """One curve per sample, ``(N, steps + 1)``, for metrics that have any."""
        return None

    def call(self, metric: Any, x: np.ndarray, y: np.ndarray, a: np.ndarray, **more: Any) -> Any:
        """What a metric of Quantus' form says about all samples in one batch."""
        options = {"softmax": True, "device": self.setting.device, "batch_size": len(x), **more}
        return metric(options.pop("model", self.setting.model), x, y, a_batch=a, **options)


class Perturbation(Column):
    """Insertion and Deletion, with their curves."""

    CLASSES: Mapping[str, Any] = {"insertion": metrics.Insertion, "deletion": metrics.Deletion}

    def make(self, name: str = "insertion") -> Any:
        """Insertion or Deletion, to the picture's black unless the settings say otherwise."""
        black = {"mean": self.setting.mean, "std": self.setting.std}
        black = {} if "baseline" in self.options else black
        return self.CLASSES[name](undefined="nan", **black, **self.options)

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        return self._both(case, self.config.metric)[0]

    def curves(self, case: Case) -> np.ndarray | None:
        """See :class:`Column`."""
        return self._both(case, self.config.metric)[1]

    def _both(self, case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
        key = (name, tuple(sorted(self.options.items())))
        if key not in case.known:
            metric = self.make(name)
            areas = np.array(self.call(metric, case.x, case.y, case.a))
            case.known[key] = areas, metric.curves
        return case.known[key]


class Difference(Perturbation):
    """ΔInsDel; what Insertion and Deletion of the same settings found is not computed again."""

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        return self._both(case, "insertion")[0] - self._both(case, "deletion")[0]

    def curves(self, case: Case) -> np.ndarray | None:
        """See :class:`Column`."""
        return None


class Confidence(Column):
    """Confidence drop and increase, of the image or of the text."""

    CLASSES: Mapping[str, Any] = {
        "drop": metrics.ConfidenceDrop,
        "increase": metrics.ConfidenceIncrease,
    }

    def make(self) -> Any:
        """The metric of one side."""
        kind, side = self.config.metric.split("_")
        options = dict(self.options)
        if side == "text":
            assert self.setting.blank is not None
            options["blank_token"] = self.setting.blank(options.pop("blank", None))
            options["special_tokens"] = self.setting.special
        return self.CLASSES[kind](undefined="nan", modality=side, **options)

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        if self.config.metric.endswith("image"):
            return np.array(self.call(self.make(), case.x, case.y, case.a))
        text = case.maps.text
        assert text is not None
        return np.array(self.call(self.make(), case.y, case.x, text.numpy()))


class Words(Column):
    """How much of the text's map lies on the words that carry content."""

    FUNCTIONS: Mapping[str, Callable[..., float]] = {
        "word_share": word_share,
        "word_auc": word_auc,
    }

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        function, text = self.FUNCTIONS[self.config.metric], case.maps.text
        subjects = case.subjects
        assert text is not None and subjects.valid is not None
        return np.array(
            [
                np.nan if content is None else function(row, valid, content)
                for row, valid, content in zip(
                    text.numpy(), subjects.valid, subjects.content, strict=True
                )
            ]
        )
