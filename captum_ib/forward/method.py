"""What the class of every method has: its name as papers write it, and Captum's usage log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from captum import log as captum_log

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Named:
    """Base that goes in front of Captum's: the name of a method is the name of its class."""

    @classmethod
    def get_name(cls) -> str:
        """The name of the class, ``"CoIBA"`` and not ``"Co I B A"``."""
        return cls.__name__


def log_usage() -> Callable[[_Function], _Function]:
    """Captum's decorator of ``attribute``, which keeps the function's type.

    ``NoiseTunnel`` needs the ``__wrapped__`` that it leaves.
    """
    decorator: Any = captum_log.log_usage  # pyright: ignore[reportAttributeAccessIssue]
    return cast(Callable[[_Function], _Function], decorator())
