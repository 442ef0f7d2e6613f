"""What the studies of CoIBA share: paired errors, mean maps, sentences, and their line charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from captum_ib.benchmark.explainers import Maps
from captum_ib.metrics.plots import COLOURS, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Mean(NamedTuple):
    """A mean over samples and its standard error; NaN where there are too few.

    >>> print(Mean(1.234, 0.5))
    1.23 ± 0.50
    """

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ± {self.error:.2f}"

    @property
    def said(self) -> str:
        """Whether it differs from 0 by two errors: "above 0", "below 0" or "not told from 0"."""
        if abs(self.value) > 2 * self.error:
            return "above 0" if self.value > 0 else "below 0"
        return "not told from 0"


def mean_of(scores: np.ndarray) -> Mean:
    """Mean and s/√N over the samples that have a score.

    >>> mean_of(np.array([1.0, 3.0, np.nan]))
    Mean(value=2.0, error=1.0)
    """
    known = scores[~np.isnan(scores)]
    error = known.std(ddof=1) / len(known) ** 0.5 if len(known) > 1 else np.nan
    return Mean(float(known.mean()) if len(known) else np.nan, float(error))


def paired(scores: np.ndarray, other: np.ndarray) -> Mean:
    """Mean difference over the samples that both have, with the standard error of differences.

    >>> paired(np.array([1.0, 2.0, 9.0]), np.array([0.0, 1.0, np.nan]))
    Mean(value=1.0, error=0.0)
    """
    return mean_of(scores - other)


def mean_maps(several: Sequence[Sequence[Maps]]) -> list[Maps]:
    """The mean over layers, batch by batch: IBA* from the maps of IBA at each layer."""
    return [
        Maps(torch.stack([maps.image for maps in batch]).mean(dim=0), None)
        for batch in zip(*several, strict=True)
    ]


def ticks_of(names: Sequence[str]) -> list[str]:
    """Layers' names as ticks: their numbers, where they have any.

    >>> ticks_of(["blocks.3.norm1", "layer3"])
    ['3', 'layer3']
    """
    numbers = [".".join(part for part in name.split(".") if part.isdigit()) for name in names]
    return [number or name for number, name in zip(numbers, names, strict=True)]


def agrees(gap: Mean) -> str:
    """Whether a difference is above 0 by two errors, as the end of a sentence."""
    return "this agrees" if gap.said == "above 0" else "this does not show it"


def lines(
    curves: Mapping[str, Sequence[Mean]], ticks: Sequence[str], *, xlabel: str, ylabel: str
) -> Figure:
    """Means with error bars over some ordered settings, one line each.

    Args:
        curves: legend entry → one mean per setting.
        ticks: the settings.
        xlabel: what they are.
        ylabel: what the means are of.
    """
    with drawn(4.2, 2.8) as (figure, axes):
        for number, (label, means) in enumerate(curves.items()):
            values, errors = zip(*means, strict=True)
            colour = COLOURS[number % len(COLOURS)]
            places = np.arange(len(ticks)) + 0.05 * (number - len(curves) / 2)
            axes.errorbar(
                places, values, np.nan_to_num(errors), label=label, color=colour, marker="o",
                elinewidth=0.7, capsize=1.5,
            )  # fmt: skip
        steep = 90 if max(map(len, ticks)) > 6 else 0
        axes.set_xticks(range(len(ticks)), ticks, rotation=steep)
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.grid(True, axis="y")
        if len(curves) > 1:
            axes.legend()
    return figure


def bars(means: Mapping[str, Mean], *, ylabel: str) -> Figure:
    """One bar with its error per entry, names below."""
    with drawn(0.9 + 0.42 * len(means), 2.8) as (figure, axes):
        values, errors = zip(*means.values(), strict=True)
        axes.bar(range(len(means)), values, yerr=np.nan_to_num(errors), color=COLOURS[0], width=0.7)
        axes.set_xticks(range(len(means)), list(means), rotation=90)
        axes.set_ylabel(ylabel)
        axes.axhline(0, color="0.3", linewidth=0.6)
    return figure
