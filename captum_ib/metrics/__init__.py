"""Judging attributions: metrics that Quantus lacks, bridges to those it has, layers ranked.

Names are loaded when first used: importing this package does not import Quantus.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_ib.metrics.agreement import layer_agreement, layer_winners, linear_cka, ssim
    from captum_ib.metrics.certificate import Certificate, certify
    from captum_ib.metrics.confidence import ConfidenceDrop, ConfidenceIncrease
    from captum_ib.metrics.difficulty import difficulty_bins, plot_difficulty
    from captum_ib.metrics.funnybirds import FunnyBirds, evaluate_funnybirds, plot_radar
    from captum_ib.metrics.insertion_deletion import Deletion, Insertion, InsertionMinusDeletion
    from captum_ib.metrics.layer_ranking import default_candidates, rank_layers
    from captum_ib.metrics.localization import LocalizationIoU
    from captum_ib.metrics.plots import plot_curves
    from captum_ib.metrics.quantus_bridge import explain_func
    from captum_ib.metrics.ranking_result import LayerRanking
    from captum_ib.metrics.road import ROAD
    from captum_ib.metrics.roar import ROARPlus

# Where each public name lives; a new name is one line here and one import above.
_HOME = {
    "Certificate": "certificate",
    "ConfidenceDrop": "confidence",
    "ConfidenceIncrease": "confidence",
    "Deletion": "insertion_deletion",
    "FunnyBirds": "funnybirds",
    "Insertion": "insertion_deletion",
    "InsertionMinusDeletion": "insertion_deletion",
    "LayerRanking": "ranking_result",
    "LocalizationIoU": "localization",
    "ROAD": "road",
    "ROARPlus": "roar",
    "certify": "certificate",
    "default_candidates": "layer_ranking",
    "difficulty_bins": "difficulty",
    "evaluate_funnybirds": "funnybirds",
    "explain_func": "quantus_bridge",
    "layer_agreement": "agreement",
    "layer_winners": "agreement",
    "linear_cka": "agreement",
    "plot_curves": "plots",
    "plot_difficulty": "difficulty",
    "plot_radar": "funnybirds",
    "rank_layers": "layer_ranking",
    "ssim": "agreement",
}

__all__ = [
    "ROAD",
    "Certificate",
    "ConfidenceDrop",
    "ConfidenceIncrease",
    "Deletion",
    "FunnyBirds",
    "Insertion",
    "InsertionMinusDeletion",
    "LayerRanking",
    "LocalizationIoU",
    "ROARPlus",
    "certify",
    "default_candidates",
    "difficulty_bins",
    "evaluate_funnybirds",
    "explain_func",
    "layer_agreement",
    "layer_winners",
    "linear_cka",
    "plot_curves",
    "plot_difficulty",
    "plot_radar",
    "rank_layers",
    "ssim",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'captum_ib.metrics' has no attribute {name!r}")
    value = getattr(import_module(f"captum_ib.metrics.{_HOME[name]}"), name)
    globals()[name] = value  # the next access does not come through here
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
