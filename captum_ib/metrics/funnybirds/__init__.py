"""The FunnyBirds protocols: explanations judged against parts whose importance can be measured."""

from __future__ import annotations

from captum_ib.metrics.funnybirds.data import PARTS, Bird, FunnyBirds
from captum_ib.metrics.funnybirds.importance import Importance, importance, part_weights
from captum_ib.metrics.funnybirds.protocols import THRESHOLDS
from captum_ib.metrics.funnybirds.radar import plot_radar
from captum_ib.metrics.funnybirds.responses import Responses
from captum_ib.metrics.funnybirds.score import FunnyBirdsScores, evaluate_funnybirds

__all__ = [
    "PARTS",
    "THRESHOLDS",
    "Bird",
    "FunnyBirds",
    "FunnyBirdsScores",
    "Importance",
    "Responses",
    "evaluate_funnybirds",
    "importance",
    "part_weights",
    "plot_radar",
]
