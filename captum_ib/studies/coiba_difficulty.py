"""Scores against how sure the model is, in 20 bins of confidence: CoIBA, Fig. 4 and Fig. 7."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from captum_ib.benchmark.catalogue import METRICS
from captum_ib.benchmark.explainers import Maps
from captum_ib.benchmark.reader import Logits
from captum_ib.forward import probabilities
from captum_ib.metrics import difficulty_bins, plot_difficulty
from captum_ib.studies.coiba_numbers import mean_of, paired
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material

METHODS: dict[str, tuple[str, dict[str, object]]] = {
    "CoIBA": ("coiba", {}),
    "IBA": ("iba", {}),
    "IBA*": ("iba", {"layer": "coiba"}),
    "Generic attention": ("genericattention", {}),
    "Beyond Intuition": ("beyondintuition", {}),
}
"""CoIBA and what the figures hold against it: name in the table of methods, and settings."""

BINS = 20


def insertion_deletion(material: Material) -> Findings:
    """Insertion, Deletion and ΔInsDel by confidence."""
    return _by_confidence(
        material, {"Insertion": "insertion", "Deletion": "deletion", "ΔInsDel": "insdel"}, {}
    )


def road(material: Material) -> Findings:
    """ΔROAD at 20, 40, 60 and 80 % by confidence."""
    return _by_confidence(material, {"ΔROAD": "road_delta"}, {"percentages": (20, 40, 60, 80)})


def _by_confidence(
    material: Material, metrics: dict[str, str], settings: dict[str, object]
) -> Findings:
    sure, scores = _confidence(material), {}
    for label, (method, options) in METHODS.items():
        maps: list[Maps] = material.explain(method, **options)
        scores[label] = {
            title: METRICS[metric].scale * material.score(maps, metric, **settings)
            for title, metric in metrics.items()
        }
        material.tell(f"{label}: explained and judged")
    tables: dict[str, pd.DataFrame] = {}
    figures: dict[str, Figure] = {}
    filled = len(np.unique(difficulty_bins(sure, sure, bins=BINS).bin))
    for title in metrics:
        bins = {label: difficulty_bins(scores[label][title], sure, bins=BINS) for label in scores}
        figures[title] = plot_difficulty(bins, ylabel=title)
        rows = {"confidence up to": bins["CoIBA"].edges[1:], "samples": bins["CoIBA"].count}
        tables[title] = pd.DataFrame({**rows, **{label: one.mean for label, one in bins.items()}})
    hard = sure <= np.median(sure)
    title = list(metrics)[-1]
    said = [_held_against(scores, title, label, hard) for label in scores if label != "CoIBA"]
    return Findings(
        tables,
        figures,
        (
            f"{len(material)} samples in {filled} of {BINS} bins of confidence. The paper finds "
            "CoIBA ahead in most bins, the hard ones too; differences are paired, ± one standard "
            "error.",
            *said,
        ),
    )


def _held_against(scores: dict, title: str, label: str, hard: np.ndarray) -> str:
    """One sentence on CoIBA and another method, over all samples and over the harder half."""
    gap = scores["CoIBA"][title] - scores[label][title]
    whole, part = mean_of(gap), paired(scores["CoIBA"][title][hard], scores[label][title][hard])
    return (
        f"CoIBA − {label} in {title}: {whole} ({whole.said}); in the harder half {part} "
        f"({part.said})."
    )


def _confidence(material: Material) -> np.ndarray:
    """The model's probability of the class that is explained, ``(N,)``."""
    found = []
    with torch.no_grad():
        for batch in material.batches:
            chances = probabilities(Logits(material.model)(batch.pixels), 1)
            found.append(chances.gather(1, batch.question.view(-1, 1))[:, 0].cpu().numpy())
    return np.concatenate(found)
