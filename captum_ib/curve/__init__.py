"""Bits that mean something: the rate–distortion curve of a sample, from fits that converge."""

from captum_ib.curve.bits_curve import BitsCurve
from captum_ib.curve.result import Curve

__all__ = ["BitsCurve", "Curve"]
