"""What every method has: its name and facts, Captum's log, the one loop over samples in parts."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from captum import log as captum_log  # pyright: ignore[reportMissingTypeStubs]: it has none
from torch import Tensor

from captum_ib.checks import BatchSize, require_size
from captum_ib.facts import Facts
from captum_ib.forward.call import Call
from captum_ib.forward.memory import fitted_to_memory
from captum_ib.forward.mistakes import look_at_map, meant, refuse_unknown
from captum_ib.hooks import check_stop, untouched

Inputs = TypeVar("Inputs", Tensor, tuple[Tensor, ...])
"""What ``attribute`` is given and gives back: tensor in, tensor out; tuple in, tuple out."""

CallT = TypeVar("CallT", bound=Call)
ItemT = TypeVar("ItemT")

Tick = Callable[..., object]
"""To be called after every step, with the number of steps done (default 1)."""

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

    if TYPE_CHECKING:  # in front of Captum's classes, whose constructors these arguments are for

        def __init__(self, *args: Any, **options: Any) -> None: ...

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
        title = type(self).__name__
        for name in [name for name in kwargs if name not in known]:
            if name not in SPELLINGS or own is None:
                settings = cast(Any, type(self)).attribute
                if name in inspect.signature(settings).parameters:
                    raise TypeError(
                        f"{title}: {name} is an argument of attribute(), not of {title}"
                    )
                raise TypeError(f"{title} has no argument {name}{meant(name, known)}")
            if own in kwargs or len(args) > known.index(own):
                raise TypeError(f"{title}: layer and layers are the same argument; pass one")
            kwargs[own] = kwargs.pop(name)
        constructor(self, *args, **kwargs)

    return cast(_Function, wrapped)


def log_usage() -> Callable[[_Function], _Function]:
    """Captum's decorator of ``attribute``, around the guard of memory (``internal_batch_size``) and
    the net that leaves a model untouched.

    It keeps the function's type. ``NoiseTunnel`` needs the ``__wrapped__`` that it leaves.
    """
    decorator: Any = vars(captum_log)["log_usage"]  # which Captum types nowhere
    return lambda function: cast(
        _Function, decorator()(_looked_at(fitted_to_memory(untouched(function))))
    )


def _looked_at(function: _Function) -> _Function:
    """The function, with a word on a mask by its name, a name it does not have, a map of zeros."""
    signature = inspect.signature(function)
    every = list(signature.parameters.values())[1:]
    open_ended = any(one.kind is one.VAR_KEYWORD for one in every)  # it says so itself
    known = [one.name for one in every]

    @functools.wraps(function)
    def checked(self: Any, *args: Any, **kwargs: Any) -> Any:
        refuse_unknown(kwargs, known, type(self).__name__, open_ended)
        found = function(self, *args, **kwargs)
        signed = getattr(getattr(self, "facts", None), "signed", False)
        given = signature.bind(self, *args, **kwargs).arguments
        if signed and not given.get("relu_attributions"):  # else 0 is: nothing positive
            look_at_map(found)
        return found

    return cast(_Function, checked)


def samples_at_once(n: int, internal_batch_size: BatchSize, rows_per_sample: int = 1) -> int:
    """How many of ``n`` samples fit into ``internal_batch_size`` rows; at least one.

    Raises:
        TypeError, ValueError: an ``internal_batch_size`` that is no positive int.
    """
    size = require_size("internal_batch_size", internal_batch_size)
    return n if size is None else min(n, max(1, size // rows_per_sample))


def in_parts(call: CallT, size: int) -> Iterator[CallT]:
    """A call's samples, at most ``size`` at a time; each part looks whether to stop."""
    for start in range(0, call.n, size):
        check_stop()
        yield call.part(start, start + size)


def watched(items: Iterable[ItemT]) -> Iterator[ItemT]:
    """The items of a long loop, with a look whether to stop before each."""
    for item in items:
        check_stop()
        yield item


_TOLD: ContextVar[Callable[[int, int], None] | None] = ContextVar("captum_ib_told", default=None)


@contextmanager
def counting(told: Callable[[int, int], None]) -> Generator[None]:
    """While this is open, methods of this thread say after each step how far they are.

    Args:
        told: called with the number of steps done, and of all steps; at the start with 0.

    >>> with counting(lambda done, total: print(f"{done} of {total}")):
    ...     with progress(2, "IBA", show=False) as tick:
    ...         tick()
    0 of 2
    1 of 2
    """
    token = _TOLD.set(told)
    try:
        yield
    finally:
        _TOLD.reset(token)


@contextmanager
def progress(total: int, name: str, show: bool) -> Generator[Tick]:
    """A function to be called after every step, with the number of steps done (default 1).

    It raises ``captum_ib.hooks.Stopped`` when the call is to end, and tells who is
    :func:`counting`.
    """
    told, done = _TOLD.get(), 0
    if told is not None:
        told(0, total)

    def counted(steps: int = 1) -> None:
        nonlocal done
        done += steps
        if told is not None:
            told(done, total)
        check_stop()

    if not show:
        yield counted
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=name, unit="step") as bar:

        def tick(steps: int = 1) -> None:
            bar.update(steps)
            counted(steps)

        yield tick


def as_given(maps: Sequence[Tensor], calls: Sequence[Call]) -> Any:
    """What ``attribute`` returns: a tensor, or a tuple for a pair and where inputs were one."""
    return tuple(maps) if len(maps) > 1 or calls[0].tuple_in else maps[0]
