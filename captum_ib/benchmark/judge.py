"""All metrics of a run on one method's maps, so that one sample's trouble stays its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.columns import Case, Column
from captum_ib.benchmark.config import MetricConfig
from captum_ib.benchmark.reader import Reader

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

Answer = tuple[np.ndarray, list[np.ndarray | None] | None]


@dataclass
class Scores:
    """What the metrics say about N samples.

    Attributes:
        values: per label ``(N,)``; NaN where there is no score.
        curves: per label of a metric with curves, one array per sample, or ``None``.
        problems: per sample why a metric failed on it.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    curves: dict[str, list[np.ndarray | None]] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


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
        self.columns = [metric.cls(column, reader) for metric, column in rows if not metric.whole]

    def __call__(self, case: Case) -> Scores:
        """Scores of all metrics; a metric that fails on a batch is asked sample by sample."""
        scores = Scores()
        for column in self.columns:
            label = column.config.label
            try:
                values, curves = _ask(column, case)
            except PROBLEMS as error:
                values, curves = self._one_by_one(column, case, error, scores)
            scores.values[label] = values
            if curves is not None:
                scores.curves[label] = curves
        return scores

    def _one_by_one(self, column: Column, case: Case, error: Exception, scores: Scores) -> Answer:
        count = len(case.subjects)
        values = np.full(count, np.nan)
        curves: list[np.ndarray | None] = [None] * count
        for row in range(count):
            try:
                if count == 1:
                    raise error
                one, line = _ask(column, case.alone(row))
                values[row], curves[row] = one[0], line and line[0]
            except PROBLEMS as problem:
                reason = f"{column.config.label}: {first_line(problem)}"
                scores.problems[row] = "; ".join(filter(None, [scores.problems.get(row), reason]))
        return values, curves if any(line is not None for line in curves) else None


def _ask(column: Column, case: Case) -> Answer:
    values = np.asarray(column.scores(case), dtype=np.float64)
    if values.shape != (len(case.subjects),):
        raise ValueError(f"{values.shape} scores for {len(case.subjects)} samples")
    curves = column.curves(case)
    return values, None if curves is None else list(curves.astype(np.float32))


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
