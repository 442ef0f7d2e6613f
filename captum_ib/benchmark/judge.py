"""All metrics of a run on one method's maps, so that one sample's trouble stays its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
