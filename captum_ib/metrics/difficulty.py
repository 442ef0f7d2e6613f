"""Any per-sample score against how sure the model is: the mean per bin of confidence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from captum_ib.metrics.plots import COLOURS, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class DifficultyBins:
    """Scores by the model's confidence, from hard to easy.

    Attributes:
        edges: ``(B + 1,)``, the bins' borders in confidence.
        mean: ``(B,)``, mean score per bin; NaN for an empty bin.
        error: ``(B,)``, standard error of that mean; NaN with fewer than two samples.
        count: ``(B,)``, samples per bin that have a score.
        bin: ``(N,)``, each sample's bin.
    """

    edges: np.ndarray
    mean: np.ndarray
    error: np.ndarray
    count: np.ndarray
    bin: np.ndarray


def difficulty_bins(
    scores: np.ndarray,
    confidence: np.ndarray,
    *,
    bins: int = 20,
    binning: Literal["width", "quantile"] = "width",
) -> DifficultyBins:
    """Difficulty-aware evaluation (CoIBA, Hong et al., CVPR 2025): 20 bins of confidence.

    Args:
        scores: ``(N,)`` of any metric; NaN (undefined samples) are left out.
        confidence: ``(N,)``, the model's probability of the target, or whatever says how easy a
            sample is; low is hard.
        bins: number of bins.
        binning: ``"width"``: equal parts of [0, 1]; ``"quantile"``: as many samples in each, for
            confidences that crowd at one end or are no probabilities.

    Raises:
        ValueError: lengths that differ; NaN confidence; confidence outside [0, 1] with ``"width"``;
            fewer than one bin.

    >>> result = difficulty_bins(np.array([1.0, 2.0, 6.0]), np.array([0.1, 0.2, 0.9]), bins=2)
    >>> result.mean.tolist(), result.count.tolist()
    ([1.5, 6.0], [2, 1])
    """
    scores, confidence = np.asarray(scores, dtype=float), np.asarray(confidence, dtype=float)
    if scores.ndim != 1 or scores.shape != confidence.shape or not len(scores):
        raise ValueError(
            f"one score and one confidence per sample, given {scores.shape} and {confidence.shape}"
        )
    if bins < 1:
        raise ValueError(f"bins must be at least 1, given {bins}")
    if not np.isfinite(confidence).all():
        raise ValueError("confidence holds NaN or infinity")
    edges = _edges(confidence, bins, binning)
    # A confidence on a border belongs to the easier bin; the largest one to the last bin.
    index = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, bins - 1)
    groups = [scores[(index == number) & ~np.isnan(scores)] for number in range(bins)]
    return DifficultyBins(
        edges=edges,
        mean=np.array([g.mean() if len(g) else np.nan for g in groups]),
        error=np.array([g.std(ddof=1) / np.sqrt(len(g)) if len(g) > 1 else np.nan for g in groups]),
        count=np.array([len(g) for g in groups]),
        bin=index,
    )


def plot_difficulty(
    results: Mapping[str, DifficultyBins],
    path: str | Path | None = None,
    *,
    ylabel: str = "score",
) -> Figure:
    """Mean score per bin and method over confidence, with one standard error as error bars.

    Args:
        results: legend entry → result of ``difficulty_bins``.
        path: where to save; None: nothing is saved.
        ylabel: the metric's name.

    Raises:
        ValueError: nothing to draw.
    """
    if not results:
        raise ValueError("no results to plot; give a dictionary of name → DifficultyBins")
    with drawn(3.3, 2.4, path) as (figure, axes):
        for number, (label, one) in enumerate(results.items()):
            some = one.count > 0
            middle = (one.edges[:-1] + one.edges[1:]) / 2
            axes.errorbar(
                middle[some],
                one.mean[some],
                np.nan_to_num(one.error[some]),
                label=label,
                color=COLOURS[number % len(COLOURS)],
                marker="o",
                elinewidth=0.6,
            )
        axes.set(xlabel="model confidence (low is difficult)", ylabel=ylabel)
        axes.grid(True)
        axes.legend()
    return figure


def _edges(confidence: np.ndarray, bins: int, binning: str) -> np.ndarray:
    if binning == "quantile":
        return np.quantile(confidence, np.linspace(0, 1, bins + 1))
    if binning != "width":
        raise ValueError(f'binning is "width" or "quantile", given {binning!r}')
    if confidence.min() < 0 or confidence.max() > 1:
        raise ValueError(
            "confidence lies outside [0, 1]; give probabilities, or use binning='quantile'"
        )
    return np.linspace(0, 1, bins + 1)
