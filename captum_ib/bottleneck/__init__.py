"""The information bottleneck itself: damping, information, noise, statistics, fit."""

from captum_ib.bottleneck.damping import Damping, GridOperator, Site
from captum_ib.bottleneck.fit import FitSettings, FitTrace, fit
from captum_ib.bottleneck.information import Gate, gate_from_logit, gaussian_kl, to_bits
from captum_ib.bottleneck.noise import NoiseStream
from captum_ib.bottleneck.statistics import MIN_STD, ActivationStatistics

__all__ = [
    "MIN_STD",
    "ActivationStatistics",
    "Damping",
    "FitSettings",
    "FitTrace",
    "Gate",
    "GridOperator",
    "NoiseStream",
    "Site",
    "fit",
    "gate_from_logit",
    "gaussian_kl",
    "to_bits",
]
