"""A metric as a column of the table, one number per sample; those of :mod:`captum_ib.metrics`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import nn

from captum_ib import metrics
from captum_ib.benchmark.config import MetricConfig
from captum_ib.benchmark.explainers import Maps
from captum_ib.benchmark.reader import Reader
from captum_ib.benchmark.subjects import Pairs, Subjects
from captum_ib.benchmark.words import word_auc, word_share

Remake = Callable[[Subjects, nn.Module], Maps]
"""Explains other pictures, or on another model; for metrics that explain again."""


@dataclass
class Case:
    """What is judged: N samples and a method's maps of them.

    Attributes:
        subjects: the samples.
        maps: what the method said.
        remake: how to explain again.
        known: scores and curves that another column may use, by metric and settings.
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
        return self.subjects.question.cpu().numpy()

    @property
    def a(self) -> np.ndarray:
        """The images' maps at the images' size, ``(N, 1, H, W)``."""
        return self.maps.at(self.subjects.pixels.shape[2:])

    @property
    def pairs(self) -> tuple[Pairs, np.ndarray]:
        """The samples and the texts' maps ``(N, T)``, for metrics of text."""
        assert isinstance(self.subjects, Pairs) and self.maps.text is not None
        return self.subjects, self.maps.text.numpy()

    def alone(self, row: int) -> Case:
        """One of the samples."""
        return Case(self.subjects.part([row]), self.maps.part([row]), self.remake)


class Column(ABC):
    """A metric with its settings.

    Args:
        config: the metric, its label and settings.
        reader: holds the model.
    """

    def __init__(self, config: MetricConfig, reader: Reader) -> None:
        self.config, self.reader = config, reader
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
        options = {"softmax": True, "device": str(self.reader.device), "batch_size": len(x), **more}
        return metric(options.pop("model", self.reader.model), x, y, a_batch=a, **options)


class Perturbation(Column):
    """Insertion and Deletion, with their curves."""

    def make(self, name: str = "insertion") -> Any:
        """Insertion or Deletion, to the picture's black unless the settings say otherwise."""
        loaded = self.reader.loaded
        black = {} if "baseline" in self.options else {"mean": loaded.mean, "std": loaded.std}
        cls = metrics.Insertion if name == "insertion" else metrics.Deletion
        return cls(undefined="nan", **black, **self.options)

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        return self.both(case, self.config.metric)[0]

    def curves(self, case: Case) -> np.ndarray | None:
        """See :class:`Column`."""
        return self.both(case, self.config.metric)[1]

    def both(self, case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Areas and curves; what a column of the same settings found is not computed again."""
        key = (name, tuple(sorted(self.options.items())))
        if key not in case.known:
            metric = self.make(name)
            areas = np.array(self.call(metric, case.x, case.y, case.a))
            case.known[key] = areas, metric.curves
        return case.known[key]


class Difference(Perturbation):
    """ΔInsDel."""

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        return self.both(case, "insertion")[0] - self.both(case, "deletion")[0]

    def curves(self, case: Case) -> np.ndarray | None:
        """It has none."""
        return None


class Confidence(Column):
    """Confidence drop and increase, of the image or of the text."""

    def make(self) -> Any:
        """The metric of one side."""
        kind, side = self.config.metric.split("_")
        options = dict(self.options)
        if side == "text":
            text = self.reader.text
            assert text is not None
            options["blank_token"] = text.blank(options.pop("blank", None))
            options["special_tokens"] = text.special_ids
        cls = metrics.ConfidenceDrop if kind == "drop" else metrics.ConfidenceIncrease
        return cls(undefined="nan", modality=side, **options)

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        if self.config.metric.endswith("image"):
            return np.array(self.call(self.make(), case.x, case.y, case.a))
        return np.array(self.call(self.make(), case.y, case.x, case.pairs[1]))


class Words(Column):
    """How much of the text's map lies on the words that carry content."""

    def scores(self, case: Case) -> np.ndarray:
        """See :class:`Column`."""
        score = word_share if self.config.metric == "word_share" else word_auc
        subjects, text = case.pairs
        rows = zip(text, subjects.valid, subjects.content, strict=True)
        return np.array(
            [
                np.nan if content is None else score(row, *rest, content)
                for row, *rest, content in rows
            ]
        )
