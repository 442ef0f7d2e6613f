"""The contract of methods that tell which region belongs to which word."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class WordRegions(Protocol):
    """A method of pairs with a map for every word: CA-M2IB, ExCLIP, FIxLIP.

    >>> from captum_ib.baselines import ExCLIP, GenericAttention
    >>> issubclass(ExCLIP, WordRegions), issubclass(GenericAttention, WordRegions)
    (True, False)
    """

    def interactions(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        target: None = None,
        additional_forward_args: Any = None,
        **settings: Any,
    ) -> Any:
        """Maps ``(N, T, h, w)`` over the picture, one for each of the text's T tokens; 0 for tokens
        that don't count. Arguments as ``attribute`` takes them, settings the method's own."""
        ...
