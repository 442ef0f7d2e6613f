"""From per-sample scores to the lines of a table: means, standard errors, times, counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from captum_ib.report.libraries import DataFrame, Series, pd
from captum_ib.report.reading import MethodInfo, MetricInfo
from captum_ib.report.scores import PREFIX, Group


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

    mean: float = math.nan
    error: float = math.nan
    over: Literal["seeds", "samples", ""] = ""
    n: int = 0
    sample_error: float = math.nan


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


def seed_cell(scores: DataFrame | np.ndarray, scale: float = 1.0) -> Cell:
    """Mean and standard error of one method in one metric.

    The mean is that of the seeds' means over samples. Its error is s/√S with s the standard
    deviation (S − 1) of the seeds' means; with one seed, or with scores that are the same for every
    seed, s/√N over the samples.

    Args:
        scores: ``(S, N)``, seeds × samples, NaN where there is no score.
        scale: factor of mean and error.

    >>> seed_cell(np.array([[1.0, 3.0], [3.0, 5.0]]))
    Cell(mean=3.0, error=1.0, over='seeds', n=2, sample_error=1.0)
    >>> seed_cell(np.array([[1.0, 3.0]]), scale=100)
    Cell(mean=200.0, error=100.0, over='samples', n=2, sample_error=100.0)
    """
    frame = scale * pd.DataFrame(scores).dropna(how="all")
    samples = _over_samples(frame.mean().dropna())
    if not samples.n or (frame.nunique(dropna=False) == 1).all():
        return samples if not samples.n else replace(samples, mean=float(frame.iloc[0].mean()))
    means = frame.mean(axis=1)
    return replace(samples, mean=float(means.mean()), error=float(means.sem()), over="seeds")


def whole_cell(scores: Series | np.ndarray, scale: float = 1.0) -> Cell:
    """Mean over seeds of a score of the whole set; its error needs seeds that differ."""
    known = scale * pd.Series(scores).dropna()
    if known.nunique() <= 1:
        return Cell(float(known.max()), n=len(known))
    return Cell(float(known.mean()), float(known.sem()), "seeds", len(known))


def paired_cell(
    scores: DataFrame | np.ndarray, best: DataFrame | np.ndarray, scale: float = 1.0
) -> Cell:
    """Mean difference to the best method over the samples that both have, error over samples.

    Args:
        scores: ``(S, N)``, seeds × samples.
        best: ``(S', N)``, the same samples.
        scale: factor of mean and error.

    >>> paired_cell(np.array([[1.0, 2.0, 4.0]]), np.array([[2.0, 3.0, np.nan]]))
    Cell(mean=-1.0, error=0.0, over='samples', n=2, sample_error=0.0)
    """
    difference = pd.DataFrame(scores).mean() - pd.DataFrame(best).mean()
    return _over_samples(scale * difference.dropna())


def make_table(group: Group) -> Table:
    """The table of a group; metrics that nobody has a score in stay out."""
    some = {label: group.rows[PREFIX + label].notna().any() for label in group.metrics}
    per_sample = [metric for label, metric in group.metrics.items() if some[label]]
    whole = _whole_metrics(group)
    lines = [_line(group, label, per_sample, whole) for label in group.methods]
    return Table(group, tuple(per_sample), tuple(whole), tuple(lines))


def ranks(cells: Sequence[Cell], up: bool, decimals: int) -> list[int]:
    """1 for the best, 2 for the second, 0 for the others, by the numbers as they are shown.

    >>> cells = [Cell(mean, 0.0, "", 1) for mean in (0.501, 0.499, 0.2)]
    >>> ranks(cells, up=True, decimals=2)
    [1, 1, 2]
    """
    shown = pd.Series([round(cell.mean, decimals) for cell in cells], dtype=float)
    places = shown.rank(method="dense", ascending=not up)
    return places.where(places <= 2, 0).fillna(0).astype(int).tolist()


_UNSHOWN = ("total", "threshold")  # the metric itself again; and no score
_REFERENCES = ("same_caption", "p_value")  # what prompt sensitivity is held against


def _whole_metrics(group: Group) -> list[MetricInfo]:
    """Scores over the whole set; ``LABEL:part`` is a part of the metric with that label.

    A part of few letters is an abbreviation: the protocols of FunnyBirds are known as CSDC, PC, …
    """
    result = []
    for name in group.whole["metric"].unique():
        label, colon, part = name.rpartition(":")
        if name in group.metrics or not colon or label not in group.metrics:
            result.append(group.metrics.get(name, MetricInfo(name, name)))
        elif part not in _UNSHOWN:
            title = part.upper() if len(part) <= 4 else part.replace("_", " ").capitalize()
            up = group.metrics[label].up and part not in _REFERENCES
            result.append(replace(group.metrics[label], label=name, title=title, up=up))
    return result


def _line(
    group: Group, label: str, metrics: Sequence[MetricInfo], whole: Sequence[MetricInfo]
) -> Line:
    rows = group.rows.loc[label]
    ok = group.table(label, "ok").eq(True)  # no row: no map
    over_all = group.whole[group.whole["method"] == label].set_index("metric")["value"]
    cells = {m.label: seed_cell(group.scores(label, m.label), m.scale) for m in metrics}
    for metric in whole:
        cells[metric.label] = whole_cell(over_all[over_all.index == metric.label], metric.scale)
    seconds = rows["seconds"][np.isfinite(rows["seconds"])]
    peak = rows["peak_bytes"].max()
    return Line(
        method=group.methods[label],
        seeds=len(ok),
        samples=int(ok.any().sum()),
        failed=int((~ok).any().sum()),
        cells=cells,
        rate=len(seconds) / float(seconds.sum()) if seconds.sum() > 0 else math.nan,
        peak=None if pd.isna(peak) else int(peak),
    )


def _over_samples(means: Series) -> Cell:
    """Mean and standard error of one number per sample."""
    if means.empty:
        return Cell()
    error = float(means.sem())
    return Cell(float(means.mean()), error, "samples" if len(means) > 1 else "", len(means), error)
