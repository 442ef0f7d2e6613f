"""Judging attributions: metrics that Quantus lacks, bridges to those it has, layers ranked.

Names are loaded when first used: importing this package does not import Quantus.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from captum_ib.lazy import attach

if TYPE_CHECKING:
    from captum_ib.metrics.agreement import layer_agreement as layer_agreement
    from captum_ib.metrics.agreement import layer_winners as layer_winners
    from captum_ib.metrics.agreement import linear_cka as linear_cka
    from captum_ib.metrics.agreement import ssim as ssim
    from captum_ib.metrics.certificate import Certificate as Certificate
    from captum_ib.metrics.certificate import certify as certify
    from captum_ib.metrics.completeness import CompletenessError as CompletenessError
    from captum_ib.metrics.confidence import ConfidenceDrop as ConfidenceDrop
    from captum_ib.metrics.confidence import ConfidenceIncrease as ConfidenceIncrease
    from captum_ib.metrics.degraded import degraded_sample as degraded_sample
    from captum_ib.metrics.difficulty import difficulty_bins as difficulty_bins
    from captum_ib.metrics.difficulty import plot_difficulty as plot_difficulty
    from captum_ib.metrics.funnybirds import FunnyBirds as FunnyBirds
    from captum_ib.metrics.funnybirds import evaluate_funnybirds as evaluate_funnybirds
    from captum_ib.metrics.funnybirds import plot_radar as plot_radar
    from captum_ib.metrics.heat_ratio import EffectiveHeatRatio as EffectiveHeatRatio
    from captum_ib.metrics.insertion_deletion import Deletion as Deletion
    from captum_ib.metrics.insertion_deletion import Insertion as Insertion
    from captum_ib.metrics.insertion_deletion import (
        InsertionMinusDeletion as InsertionMinusDeletion,
    )
    from captum_ib.metrics.layer_ranking import default_candidates as default_candidates
    from captum_ib.metrics.layer_ranking import rank_layers as rank_layers
    from captum_ib.metrics.localization import LocalizationIoU as LocalizationIoU
    from captum_ib.metrics.mu_fidelity import MuFidelity as MuFidelity
    from captum_ib.metrics.pair_curves import PairCurves as PairCurves
    from captum_ib.metrics.pair_curves import pair_insertion_deletion as pair_insertion_deletion
    from captum_ib.metrics.plots import plot_curves as plot_curves
    from captum_ib.metrics.pointing import EnergyPointingGame as EnergyPointingGame
    from captum_ib.metrics.pointing import PointingGrids as PointingGrids
    from captum_ib.metrics.pointing import pointing_grids as pointing_grids
    from captum_ib.metrics.prompts import PromptSensitivity as PromptSensitivity
    from captum_ib.metrics.quantus_bridge import explain_func as explain_func
    from captum_ib.metrics.ranking_result import LayerRanking as LayerRanking
    from captum_ib.metrics.relevance_order import SRG as SRG
    from captum_ib.metrics.relevance_order import LeRF as LeRF
    from captum_ib.metrics.relevance_order import MoRF as MoRF
    from captum_ib.metrics.road import ROAD as ROAD
    from captum_ib.metrics.roar import ROARPlus as ROARPlus
    from captum_ib.metrics.segmentation import AveragePrecision as AveragePrecision
    from captum_ib.metrics.segmentation import MeanIoU as MeanIoU
    from captum_ib.metrics.segmentation import PixelAccuracy as PixelAccuracy
    from captum_ib.metrics.synergy import SynergisticFaithfulness as SynergisticFaithfulness

# Where each public name lives; a new name is one line here and one import above.
_HOMES = {
    "AveragePrecision": ".segmentation",
    "Certificate": ".certificate",
    "CompletenessError": ".completeness",
    "ConfidenceDrop": ".confidence",
    "ConfidenceIncrease": ".confidence",
    "Deletion": ".insertion_deletion",
    "EffectiveHeatRatio": ".heat_ratio",
    "EnergyPointingGame": ".pointing",
    "FunnyBirds": ".funnybirds",
    "Insertion": ".insertion_deletion",
    "InsertionMinusDeletion": ".insertion_deletion",
    "LayerRanking": ".ranking_result",
    "LeRF": ".relevance_order",
    "LocalizationIoU": ".localization",
    "PairCurves": ".pair_curves",
    "MeanIoU": ".segmentation",
    "MoRF": ".relevance_order",
    "MuFidelity": ".mu_fidelity",
    "PixelAccuracy": ".segmentation",
    "PointingGrids": ".pointing",
    "PromptSensitivity": ".prompts",
    "ROAD": ".road",
    "ROARPlus": ".roar",
    "SRG": ".relevance_order",
    "SynergisticFaithfulness": ".synergy",
    "certify": ".certificate",
    "default_candidates": ".layer_ranking",
    "degraded_sample": ".degraded",
    "difficulty_bins": ".difficulty",
    "evaluate_funnybirds": ".funnybirds",
    "explain_func": ".quantus_bridge",
    "layer_agreement": ".agreement",
    "layer_winners": ".agreement",
    "linear_cka": ".agreement",
    "pair_insertion_deletion": ".pair_curves",
    "plot_curves": ".plots",
    "plot_difficulty": ".difficulty",
    "plot_radar": ".funnybirds",
    "pointing_grids": ".pointing",
    "rank_layers": ".layer_ranking",
    "ssim": ".agreement",
}

__getattr__, __dir__, __all__ = attach(__name__, _HOMES)
