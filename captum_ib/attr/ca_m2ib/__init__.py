"""CA-M2IB: M2IB guided by cross-attention (Bourigault, Bourigault, Mandic)."""

from captum_ib.attr.ca_m2ib.method import CAM2IB
from captum_ib.attr.ca_m2ib.result import CrossAttention

__all__ = ["CAM2IB", "CrossAttention"]
