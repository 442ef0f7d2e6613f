"""From per-sample scores to the lines of a table: means, standard errors, times, counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from captum_ib.report.reading import MethodInfo, MetricInfo
from captum_ib.report.scores import Group, MethodScores

Over = Literal["seeds", "samples", ""]


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        mean: NaN: there is no score.
        error: its standard error; NaN: there is none.
        over: what the error is taken over.
        n: samples with a score.
        sample_error: standard error over samples of their means over seeds, whatever ``error`` is.
    """

    mean: float
    error: float
    over: Over
    n: int
    sample_error: float = float("nan")


@dataclass(frozen=True)
class Line:
    """One method's line.

    Attributes:
        method: whose it is.
        seeds: how many there are.
        samples: samples with a map from at least one seed.
        failed: samples without a map from at least one seed.
        cells: metric label → number, those over the whole set included.
        rate: samples per second, NaN where no time is known.
        peak: largest memory above the level before, in bytes; None where it can't be told.
    """

    method: MethodInfo
    seeds: int
    samples: int
    failed: int
    cells: dict[str, Cell]
    rate: float
    peak: int | None


@dataclass(frozen=True)
class Table:
    """One model on one set of samples.

    Attributes:
        group: what it was made from.
        metrics: columns with one score per sample.
        whole: columns with one score for all samples.
        lines: methods, in the run's order.
    """

    group: Group
    metrics: tuple[MetricInfo, ...]
    whole: tuple[MetricInfo, ...]
    lines: tuple[Line, ...]


def seed_cell(scores: np.ndarray, scale: float = 1.0) -> Cell:
    """Mean and standard error of one method in one metric.

    The mean is that of the seeds' means over samples. Its error is s/√S with s the standard
    deviation (S − 1) of the seeds' means; with one seed, or with scores that are the same for every
    seed, s/√N over the samples.

    Args:
        scores: `(S, N)`, NaN where there is no score.
        scale: factor of mean and error.

    >>> seed_cell(np.array([[1.0, 3.0], [3.0, 5.0]]))
    Cell(mean=3.0, error=1.0, over='seeds', n=2, sample_error=1.0)
    >>> seed_cell(np.array([[1.0, 3.0]]), scale=100)
    Cell(mean=200.0, error=100.0, over='samples', n=2, sample_error=100.0)
    """
    scores = np.asarray(scores, dtype=float) * scale
    scores = scores[~np.isnan(scores).all(1)]
    n = int((~np.isnan(scores)).any(0).sum())
    if not n:
        return Cell(float("nan"), float("nan"), "", 0)
    means = np.nanmean(scores, 1)
    same = _same(scores)
    samples = sample_means(scores)
    error = _standard_error(samples[~np.isnan(samples)])
    if len(means) > 1 and not same:
        return Cell(float(means.mean()), _standard_error(means), "seeds", n, error)
    return Cell(float(means[0]), error, "samples" if n > 1 else "", n, error)


def whole_cell(scores: np.ndarray, scale: float = 1.0) -> Cell:
    """Mean over seeds of a score of the whole set; its error needs seeds that differ."""
    scores = scores[~np.isnan(scores)] * scale
    if not len(scores):
        return Cell(float("nan"), float("nan"), "", 0)
    if (scores == scores[0]).all():
        return Cell(float(scores[0]), float("nan"), "", len(scores))
    return Cell(float(scores.mean()), _standard_error(scores), "seeds", len(scores))


def paired_cell(scores: np.ndarray, best: np.ndarray, scale: float = 1.0) -> Cell:
    """Mean difference to the best method over the samples that both have, error over samples.

    Args:
        scores: `(S, N)`.
        best: `(S', N)`, the same samples.
        scale: factor of mean and error.

    >>> paired_cell(np.array([[1.0, 2.0, 4.0]]), np.array([[2.0, 3.0, np.nan]]))
    Cell(mean=-1.0, error=0.0, over='samples', n=2, sample_error=0.0)
    """
    difference = scale * (sample_means(scores) - sample_means(best))
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        return Cell(float("nan"), float("nan"), "", 0)
    over: Over = "samples" if len(difference) > 1 else ""
    error = _standard_error(difference)
    return Cell(float(difference.mean()), error, over, len(difference), error)


def sample_means(scores: np.ndarray) -> np.ndarray:
    """`(N,)` mean over the seeds that have a score; NaN where none has."""
    some = ~np.isnan(scores)
    total = np.where(some, scores, 0).sum(0)
    return np.where(some.any(0), total / np.maximum(some.sum(0), 1), np.nan)


def make_table(group: Group) -> Table:
    """The table of a group; metrics that nobody has a score in stay out."""
    per_sample = [
        metric
        for label, metric in group.metrics.items()
        if any((~np.isnan(one.values[label])).any() for one in group.scores.values())
    ]
    whole = _whole_metrics(group)
    lines = [
        _line(group.methods.get(label, MethodInfo(label, label)), one, per_sample, whole)
        for label, one in group.scores.items()
    ]
    return Table(group, tuple(per_sample), tuple(whole), tuple(lines))


def ranks(cells: Sequence[Cell], up: bool, decimals: int) -> list[int]:
    """1 for the best, 2 for the second, 0 for the others, by the numbers as they are shown.

    >>> cells = [Cell(mean, 0.0, "", 1) for mean in (0.501, 0.499, 0.2)]
    >>> ranks(cells, up=True, decimals=2)
    [1, 1, 2]
    """
    shown = [round(cell.mean, decimals) for cell in cells]
    order = sorted({value for value in shown if value == value}, reverse=up)
    places = {value: place for place, value in enumerate(order[:2], start=1)}
    return [places.get(value, 0) for value in shown]


_UNSHOWN = ("total", "threshold")  # the metric itself again; and no score


def _whole_metrics(group: Group) -> list[MetricInfo]:
    """Scores over the whole set; ``LABEL:part`` is a part of the metric with that label.

    A part of few letters is an abbreviation: the protocols of FunnyBirds are known as CSDC, PC, …
    """
    result = []
    for name in dict.fromkeys(name for one in group.scores.values() for name in one.whole):
        label, colon, part = name.rpartition(":")
        if name in group.metrics or not colon or label not in group.metrics:
            result.append(group.metrics.get(name, MetricInfo(name, name)))
        elif part not in _UNSHOWN:
            title = part.upper() if len(part) <= 4 else part.replace("_", " ").capitalize()
            parent = group.metrics[label]
            result.append(replace(parent, label=name, title=title))
    return result


def _line(
    method: MethodInfo,
    scores: MethodScores,
    metrics: Sequence[MetricInfo],
    whole: Sequence[MetricInfo],
) -> Line:
    cells = {m.label: seed_cell(scores.values[m.label], m.scale) for m in metrics}
    for metric in whole:
        values = scores.whole.get(metric.label, np.empty(0))
        cells[metric.label] = whole_cell(values, metric.scale)
    seconds = scores.seconds[np.isfinite(scores.seconds)]
    return Line(
        method=method,
        seeds=len(scores.seeds),
        samples=int(scores.ok.any(0).sum()),
        failed=int((~scores.ok).any(0).sum()),
        cells=cells,
        rate=len(seconds) / float(seconds.sum()) if seconds.sum() > 0 else float("nan"),
        peak=scores.peak,
    )


def _same(scores: np.ndarray) -> bool:
    return bool(np.array_equal(scores, np.broadcast_to(scores[0], scores.shape), equal_nan=True))


def _standard_error(values: np.ndarray) -> float:
    """s/√n with n − 1 in s; NaN for a single value."""
    if len(values) < 2:
        return float("nan")
    return float(values.std(ddof=1) / np.sqrt(len(values)))
