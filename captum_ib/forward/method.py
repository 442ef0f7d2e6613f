"""What the class of every method has: its name as papers write it, its facts, Captum's log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from captum import log as captum_log  # pyright: ignore[reportMissingTypeStubs]: it has none
from torch import Tensor

from captum_ib.facts import Facts
from captum_ib.hooks import untouched

Inputs = TypeVar("Inputs", Tensor, tuple[Tensor, ...])
"""What ``attribute`` is given and gives back: tensor in, tensor out; tuple in, tuple out."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Named:
    """Base that goes in front of Captum's: the name of a method is the name of its class.

    Attributes:
        facts: what is known of the method beside its equations; the table of methods asks for it.
        forward_func: the function that is explained, as Captum keeps it.
    """

    facts: ClassVar[Facts]
    forward_func: Callable[..., Any]

    @classmethod
    def get_name(cls) -> str:
        """The name of the class, ``"CoIBA"`` and not ``"Co I B A"``."""
        return cls.__name__


def log_usage() -> Callable[[_Function], _Function]:
    """Captum's decorator of ``attribute``, around the net that leaves a model untouched.

    It keeps the function's type. ``NoiseTunnel`` needs the ``__wrapped__`` that it leaves.
    """
    decorator: Any = vars(captum_log)["log_usage"]  # which Captum types nowhere
    return lambda function: cast(_Function, decorator()(untouched(function)))
