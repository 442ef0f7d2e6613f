"""The table of metrics: how each is shown, and what computes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.config import MethodConfig, MetricConfig
from captum_ib.benchmark.settings import FLOOR


@dataclass(frozen=True)
class MetricSpec:
    """How a metric is shown.

    Attributes:
        title: as papers write it.
        direction: ``"up"``: higher is better.
        applies: to the map of the image, of the text, or to both together.
        scale: factor for display.
        curve: whether every sample also has a curve.
        slow: explains every sample many times over.
    """

    title: str
    direction: Literal["up", "down"]
    applies: Literal["image", "text", "pair"] = "image"
    scale: float = 1.0
    curve: bool = False
    slow: bool = False


SPECS: dict[str, MetricSpec] = {
    "insertion": MetricSpec("Insertion", "up", curve=True),
    "deletion": MetricSpec("Deletion", "down", curve=True),
    "insdel": MetricSpec("ΔInsDel", "up"),
    "road": MetricSpec("ROAD", "down", scale=100.0),
    "pointing_game": MetricSpec("Pointing game", "up"),
    "iou": MetricSpec("IoU", "up"),
    "relevance_rank": MetricSpec("Relevance rank", "up"),
    "sparseness": MetricSpec("Sparseness", "up"),
    "drop_image": MetricSpec("Confidence drop, image", "down"),
    "increase_image": MetricSpec("Confidence increase, image", "up"),
    "drop_text": MetricSpec("Confidence drop, text", "down", "text"),
    "increase_text": MetricSpec("Confidence increase, text", "up", "text"),
    "word_share": MetricSpec("Share on content words", "up", "text"),
    "word_auc": MetricSpec("AUC of content words", "up", "text"),
    "max_sensitivity": MetricSpec("Max sensitivity", "down", slow=True),
    "completeness": MetricSpec("Completeness gap", "down"),
    "mprt": MetricSpec("MPRT", "down", slow=True),
    "roar_plus": MetricSpec("ROAR+", "up", "pair"),
    "funnybirds": MetricSpec("FunnyBirds", "up"),
}


def per_sample(metrics: tuple[MetricConfig, ...]) -> list[MetricConfig]:
    """The metrics with one score per sample."""
    return [column for column in metrics if not METRICS[column.metric].whole]


def over_all(metrics: tuple[MetricConfig, ...]) -> list[MetricConfig]:
    """The metrics with one score for all samples of a method."""
    return [column for column in metrics if METRICS[column.metric].whole]


def metric_facts(column: MetricConfig) -> dict[str, Any]:
    """What a reader of the results has to know of a metric.

    >>> metric_facts(MetricConfig("iou", "IoU"))["direction"]
    'up'
    """
    spec = SPECS[column.metric]
    title = spec.title if column.label == column.metric else column.label
    return {
        "metric": column.metric,
        "title": title,
        "direction": spec.direction,
        "scale": spec.scale,
        "applies": spec.applies,
        "settings": dict(column.settings),
        "whole": METRICS[column.metric].whole,
    }


def method_facts(line: MethodConfig) -> dict[str, Any]:
    """What a reader of the results has to know of a method.

    >>> method_facts(MethodConfig("nib", "NIB"))["signed"]
    True
    """
    common: Mapping[str, Any] = {"method": line.method, "settings": dict(line.settings)}
    if line.method == FLOOR:
        facts = {"title": line.label, "unit": "noise", "signed": True, "paper": ""}
        return {**facts, "stochastic": True, **common}
    from captum_ib import methods

    row = methods.get(line.method)
    return {
        "title": line.label,
        "unit": row.unit,
        "signed": row.signed,
        "paper": row.paper,
        "stochastic": "seed" in row.options,
        **common,
    }
