"""What the class of every method has: its name as papers write it, its facts, Captum's log."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast

from captum import log as captum_log  # pyright: ignore[reportMissingTypeStubs]: it has none
from torch import Tensor

from captum_ib.facts import Facts
from captum_ib.forward.mistakes import refuse_mask_keywords
from captum_ib.hooks import untouched

Inputs = TypeVar("Inputs", Tensor, tuple[Tensor, ...])
"""What ``attribute`` is given and gives back: tensor in, tensor out; tuple in, tuple out."""

_Function = TypeVar("_Function", bound=Callable[..., Any])

SPELLINGS = ("layer", "layers")
"""Two words for where a method looks; Captum's is the first."""


class Named:
    """Base that goes in front of Captum's: the name of a method is the name of its class.

    Where a method looks is ``layer`` or ``layers``, whichever of the two words is used: each
    constructor takes both, one at a time.

    Attributes:
        facts: what is known of the method beside its equations; the table of methods asks for it.
        forward_func: the function that is explained, as Captum keeps it.
    """

    facts: ClassVar[Facts]
    forward_func: Callable[..., Any]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not hasattr(cls.__init__, "__wrapped__"):  # its own, or one of Captum's
            cls.__init__ = _either_spelling(cls.__init__)

    @classmethod
    def get_name(cls) -> str:
        """The name of the class, ``"CoIBA"`` and not ``"Co I B A"``."""
        return cls.__name__


def _either_spelling(constructor: _Function) -> _Function:
    """The constructor with ``layer`` for ``layers`` and the reverse, and a word to other names."""
    known = [name for name in inspect.signature(constructor).parameters if name != "self"]
    own = next((name for name in SPELLINGS if name in known), None)

    @functools.wraps(constructor)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> None:
        for name in [name for name in kwargs if name not in known]:
            title = type(self).__name__
            if name not in SPELLINGS or own is None:
                raise TypeError(f"{title} has no argument {name}; it has {', '.join(known)}")
            if own in kwargs or len(args) > known.index(own):
                raise TypeError(f"{title}: layer and layers are the same argument; pass one")
            kwargs[own] = kwargs.pop(name)
        constructor(self, *args, **kwargs)

    return cast(_Function, wrapped)


def log_usage() -> Callable[[_Function], _Function]:
    """Captum's decorator of ``attribute``, around the net that leaves a model untouched.

    It keeps the function's type. ``NoiseTunnel`` needs the ``__wrapped__`` that it leaves.
    """
    decorator: Any = vars(captum_log)["log_usage"]  # which Captum types nowhere
    return lambda function: cast(_Function, decorator()(_no_masks(untouched(function))))


def _no_masks(function: _Function) -> _Function:
    """The function, with a word to who passes a mask by its name."""
    known = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        refuse_mask_keywords(kwargs, known)
        return function(*args, **kwargs)

    return cast(_Function, checked)
