"""The information bottleneck itself: damping ratio, channel, noise, statistics, fit."""

from captum_ib.bottleneck.channel import Channel, gaussian_kl, to_bits
from captum_ib.bottleneck.damping import INITIAL_ALPHA, Damping, DampingRatio, damping_ratio
from captum_ib.bottleneck.fit import Fit, FitSettings, FitTrace, Problem, Terms, fit
from captum_ib.bottleneck.grids import GridOperator
from captum_ib.bottleneck.noise import Noise, NoiseStream, Prior
from captum_ib.bottleneck.statistics import MIN_STD, ActivationStatistics

__all__ = [
    "INITIAL_ALPHA",
    "MIN_STD",
    "ActivationStatistics",
    "Channel",
    "Damping",
    "DampingRatio",
    "Fit",
    "FitSettings",
    "FitTrace",
    "GridOperator",
    "Noise",
    "NoiseStream",
    "Prior",
    "Problem",
    "Terms",
    "damping_ratio",
    "fit",
    "gaussian_kl",
    "to_bits",
]
