"""The attribution methods, one file each, all of them Captum attributions."""

from captum_ib.attr.ca_m2ib import CAM2IB, CrossAttention
from captum_ib.attr.coiba import CoIBA
from captum_ib.attr.com2ib import CoM2IB
from captum_ib.attr.iba import IBA
from captum_ib.attr.input_iba import InputIBA
from captum_ib.attr.m2ib import M2IB
from captum_ib.attr.nib import NIB

__all__ = ["CAM2IB", "IBA", "M2IB", "NIB", "CoIBA", "CoM2IB", "CrossAttention", "InputIBA"]
