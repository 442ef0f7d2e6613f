"""Which metrics of a table rank its methods in opposite order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from captum_ib.metrics.plots import drawn
from captum_ib.report.aggregate import Line, Table
from captum_ib.report.reading import MetricInfo

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEWEST = 3
"""Methods that two columns must share for their orders to be compared: two are opposite by chance
in every second case."""
_SAID = 5


@dataclass(frozen=True)
class Agreement:
    """How two columns order the methods that both have a number for.

    Attributes:
        first: a column.
        second: another.
        tau: Kendall's τ-b of the two orders, from the better end each: 1 the same, −1 the
            opposite; NaN with fewer than three methods, or where a column has one number only.
        methods: how many.
    """

    first: MetricInfo
    second: MetricInfo
    tau: float
    methods: int


def agreements(table: Table) -> list[Agreement]:
    """All pairs of metrics, those over the whole set included, in the table's order."""
    return [
        Agreement(one, other, *_compared(table.lines, one, other))
        for one, other in combinations(_columns(table), 2)
    ]


def sentences(table: Table) -> list[str]:
    """What a report says: the pairs of columns whose orders contradict each other (τ < 0)."""
    found = [pair for pair in agreements(table) if pair.tau < 0]
    found.sort(key=lambda pair: pair.tau)
    if not found:
        return []
    said = "; ".join(
        f"{pair.first.title} and {pair.second.title} ({_signed(pair.tau)}, {pair.methods} methods)"
        for pair in found[:_SAID]
    )
    more = f"; and {len(found) - _SAID} more pairs" if len(found) > _SAID else ""
    below = "Kendall's τ below 0; −1: in opposite order"
    return [f"Metrics that order the methods against each other ({below}): {said}{more}."]


def _columns(table: Table) -> tuple[MetricInfo, ...]:
    """The run's metrics; parts of one (a protocol of FunnyBirds, a kind of prompt) stay out."""
    whole = (metric for metric in table.whole if metric.label in table.group.metrics)
    return (*table.metrics, *whole)


def plot(table: Table) -> Figure | None:
    """A square of Kendall's τ between the columns; none for fewer than two that can be compared."""
    pairs = agreements(table)
    known = {title for pair in _known(pairs) for title in (pair.first.label, pair.second.label)}
    columns = [metric for metric in _columns(table) if metric.label in known]
    if not columns:
        return None
    place = {metric.label: number for number, metric in enumerate(columns)}
    square = np.eye(len(columns))
    square[square == 0] = np.nan
    for pair in pairs:
        if pair.first.label in place and pair.second.label in place:
            row, column = place[pair.first.label], place[pair.second.label]
            square[row, column] = square[column, row] = pair.tau
    side = 1.6 + 0.33 * len(columns)
    with drawn(side + 0.6, side) as (figure, axes):
        image = axes.imshow(square, cmap="RdBu", vmin=-1, vmax=1)
        names = [f"{metric.title} {metric.arrow}" for metric in columns]
        axes.set_xticks(range(len(names)), names, rotation=90)
        axes.set_yticks(range(len(names)), names)
        for (row, column), tau in np.ndenumerate(square):
            if math.isfinite(tau):
                colour = "white" if abs(tau) > 0.6 else "black"
                text = _signed(tau)
                axes.text(column, row, text, ha="center", va="center", fontsize=5, color=colour)
        figure.colorbar(image, label="Kendall's τ of the methods' order", shrink=0.8)
    return figure


def _known(pairs: Sequence[Agreement]) -> Iterator[Agreement]:
    return (pair for pair in pairs if not math.isnan(pair.tau))


def _compared(lines: Sequence[Line], one: MetricInfo, other: MetricInfo) -> tuple[float, int]:
    numbers = np.array(
        [[line.cells[metric.label].mean for metric in (one, other)] for line in lines]
    )
    numbers = numbers[np.isfinite(numbers).all(1)]
    signs = np.array([1 if metric.up else -1 for metric in (one, other)])
    return kendall(*(numbers * signs).T) if len(numbers) >= FEWEST else math.nan, len(numbers)


def kendall(one: np.ndarray, other: np.ndarray) -> float:
    """Kendall's τ-b of ``(N,)`` and ``(N,)``; NaN where one has no two different numbers.

    >>> kendall(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0]))
    0.3333333333333333
    """
    pairs = np.triu_indices(len(one), 1)
    signs = [np.sign(np.subtract.outer(values, values)[pairs]) for values in (one, other)]
    size = math.sqrt(float((signs[0] ** 2).sum() * (signs[1] ** 2).sum()))
    return float((signs[0] * signs[1]).sum()) / size if size else math.nan


def _signed(tau: float) -> str:
    return f"{tau:.2f}".replace("-", "−")
