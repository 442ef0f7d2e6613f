"""The attribution methods, one file each, all of them Captum attributions."""

from captum_ib.attr.coiba import CoIBA
from captum_ib.attr.iba import IBA
from captum_ib.attr.m2ib import M2IB
from captum_ib.attr.nib import NIB

__all__ = ["IBA", "M2IB", "NIB", "CoIBA"]
