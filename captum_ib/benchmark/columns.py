"""A metric as a column of the table, one number per sample; those of :mod:`captum_ib.metrics`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from captum_ib import metrics
from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.config import MetricConfig
from captum_ib.benchmark.explainers import Maps
from captum_ib.benchmark.reader import Reader
from captum_ib.benchmark.subjects import Pairs, Subjects
from captum_ib.zoo.evaluate import auc

PROBLEMS = (
    ValueError,
    TypeError,
    RuntimeError,
    AssertionError,
    ArithmeticError,
    LookupError,
    AttributeError,
)
"""What a method or metric may raise for a sample; it is recorded, and the run goes on."""

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
        self._make()

    def _make(self) -> Any:
        """A fresh metric: those of Quantus keep every score they ever gave.

        Raises:
            ValueError: a setting is out of range; it shows before anything is computed.
        """
        return None

    @abstractmethod
    def _scores(self, case: Case) -> np.ndarray:
        """One number per sample, ``(N,)``; NaN where there is none."""

    def _curves(self, case: Case) -> np.ndarray | None:
        """One curve per sample, ``(N, steps + 1)``, for metrics that have any."""
        return None

    def fill(self, case: Case, rows: Sequence[dict[str, Any]]) -> None:
        """Put the samples' scores, and curves, into their rows; a score that is NaN is null."""
        scores = np.asarray(self._scores(case), dtype=np.float64)
        if scores.shape != (len(rows),):
            raise ValueError(f"{scores.shape} scores for {len(rows)} samples")
        curves = self._curves(case)
        for number, row in enumerate(rows):
            score = float(scores[number])
            row[f"metric:{self.config.label}"] = None if np.isnan(score) else score
            if curves is not None:
                row[f"curve:{self.config.label}"] = curves[number].astype(np.float32)

    def call(self, metric: Any, x: np.ndarray, y: np.ndarray, a: np.ndarray, **more: Any) -> Any:
        """What a metric of Quantus' form says about all samples in one batch."""
        options = {"softmax": True, "device": str(self.reader.device), "batch_size": len(x), **more}
        return metric(options.pop("model", self.reader.model), x, y, a_batch=a, **options)


class Perturbation(Column):
    """Insertion and Deletion, with their curves."""

    def _make(self, name: str = "insertion") -> Any:
        # The picture's black is the baseline unless the settings say otherwise.
        loaded = self.reader.loaded
        black = {} if "baseline" in self.options else {"mean": loaded.mean, "std": loaded.std}
        cls = metrics.Insertion if name == "insertion" else metrics.Deletion
        return cls(undefined="nan", **black, **self.options)

    def _scores(self, case: Case) -> np.ndarray:
        return self._both(case, self.config.metric)[0]

    def _curves(self, case: Case) -> np.ndarray | None:
        return self._both(case, self.config.metric)[1]

    def _both(self, case: Case, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Areas and curves; what a column of the same settings found is not computed again."""
        key = (name, tuple(sorted(self.options.items())))
        if key not in case.known:
            metric = self._make(name)
            areas = np.array(self.call(metric, case.x, case.y, case.a))
            case.known[key] = areas, metric.curves
        return case.known[key]


class Difference(Perturbation):
    """ΔInsDel."""

    def _scores(self, case: Case) -> np.ndarray:
        return self._both(case, "insertion")[0] - self._both(case, "deletion")[0]

    def _curves(self, case: Case) -> np.ndarray | None:
        return None


class Confidence(Column):
    """Confidence drop and increase, of the image or of the text."""

    def _make(self) -> Any:
        kind, side = self.config.metric.split("_")
        options = dict(self.options)
        if side == "text":
            text = self.reader.text
            assert text is not None
            options["blank_token"] = text.blank(options.pop("blank", None))
            options["special_tokens"] = text.special_ids
        cls = metrics.ConfidenceDrop if kind == "drop" else metrics.ConfidenceIncrease
        return cls(undefined="nan", modality=side, **options)

    def _scores(self, case: Case) -> np.ndarray:
        if self.config.metric.endswith("image"):
            return np.array(self.call(self._make(), case.x, case.y, case.a))
        return np.array(self.call(self._make(), case.y, case.x, case.pairs[1]))


class Words(Column):
    """How much of the text's map lies on the words that carry content."""

    def _scores(self, case: Case) -> np.ndarray:
        score = word_share if self.config.metric == "word_share" else word_auc
        subjects, text = case.pairs
        rows = zip(text, subjects.valid, subjects.content, strict=True)
        return np.array(
            [
                np.nan if content is None else score(row, valid, content)
                for row, valid, content in rows
            ]
        )


class Judge:
    """The metrics of a run that have one score per sample.

    Args:
        columns: the run's metrics; those over the whole set are left to :mod:`.whole`.
        reader: holds the model.

    Raises:
        ValueError: a metric that is not for this kind of model, or a setting out of range.
    """

    def __init__(self, columns: Sequence[MetricConfig], reader: Reader) -> None:
        rows = [(METRICS[column.metric], column) for column in columns]
        for metric, _ in rows:
            metric.check_kind(reader.loaded.kind)
        self._columns = [metric.cls(column, reader) for metric, column in rows if not metric.whole]

    def __call__(self, case: Case, rows: Sequence[dict[str, Any]]) -> None:
        """Put all scores into the samples' rows; a sample that a metric fails on is ``failed``."""
        for column in self._columns:
            _ask(column, case, rows)


def _ask(column: Column, case: Case, rows: Sequence[dict[str, Any]]) -> None:
    """One metric; if it fails on a batch it is asked sample by sample."""
    try:
        column.fill(case, rows)
    except PROBLEMS as error:
        if len(rows) > 1:
            for number, row in enumerate(rows):
                _ask(column, case.alone(number), [row])
            return
        reason = f"{column.config.label}: {first_line(error)}"
        rows[0].update(status="failed", reason="; ".join(filter(None, [rows[0]["reason"], reason])))


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def word_share(values: np.ndarray, valid: np.ndarray, content: np.ndarray) -> float:
    """The share of the positive attribution of the words that lies on content words, in [0, 1].

    Args:
        values: ``(T,)``, attribution per token.
        valid: ``(T,)`` bool, the tokens that stand for text.
        content: ``(T,)`` bool, those of words that carry content.

    Returns:
        NaN where no word has a positive attribution.

    >>> word_share(np.array([9.0, 3.0, 1.0]), np.array([0, 1, 1]) > 0, np.array([0, 1, 0]) > 0)
    0.75
    """
    positive = np.clip(values, 0, None, dtype=np.float64) * valid
    total = positive.sum()
    return float((positive * content).sum() / total) if total > 0 else float("nan")


def word_auc(values: np.ndarray, valid: np.ndarray, content: np.ndarray) -> float:
    """How often a content word has more attribution than another word, ties counting half.

    Arguments as for :func:`word_share`.

    Returns:
        In [0, 1]; NaN where all words carry content, or none.

    >>> word_auc(np.array([9.0, 3.0, 1.0]), np.array([0, 1, 1]) > 0, np.array([0, 1, 0]) > 0)
    1.0
    """
    words, truth = torch.from_numpy(values[valid]), torch.from_numpy(content[valid])
    return float(auc(words, truth)) if truth.any() and not truth.all() else float("nan")
