"""InputIBA: the information bottleneck on the pixels or words themselves (Zhang et al.)."""

from captum_ib.attr.input_iba.method import InputIBA

__all__ = ["InputIBA"]
