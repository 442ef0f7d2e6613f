"""Which axis of an activation is what: followed through the operations of one forward pass.

A convolution says where its channels, rows and columns are, a linear map that the last axis holds
channels, an embedding that the second one holds positions. From there axes are followed through
transpositions, reshapes, slices, concatenations, sums and products, so that nothing is decided by
which sizes happen to agree. What no operation says stays unknown; what an operation puts in an
order that can't be followed is ``"other"``.
"""

# What torch's operations are given is untyped; the rules below belong to the tracker.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from captum_ib.axis import Axes, Axis
from captum_ib.hooks import axis_moves, axis_rules
from captum_ib.hooks.axis_rules import Rule, unknown
from captum_ib.hooks.regroup import GROUP, OTHER, PLACES

RULES: dict[str, Rule] = {**axis_rules.RULES, **axis_moves.RULES}

Order = tuple[int | None, ...]
"""Per axis of a result the axis of its source that it is, if any."""


@dataclass
class Known:
    """What is known of one tensor's axes, and which tensors share them.

    Kept apart from the tensor: what a later operation shows of an activation is followed back
    through tensors that are gone by then.
    """

    axes: Axes
    shape: tuple[int, ...]
    sources: list[tuple[Known, Order]] = field(default_factory=list)

    def learn(self, axes: Axes) -> None:
        """Fill in what was unknown, here and in the tensors that this one was made of."""
        todo = [(self, axes)]
        while todo:
            one, said = todo.pop()
            filled = tuple(
                old if old or new in (None, OTHER, GROUP) or not new.fits(size) else new
                for old, new, size in zip(one.axes, said, one.shape, strict=True)
            )
            if filled == one.axes:
                continue
            one.axes = filled
            todo += [(source, _back(filled, order, source)) for source, order in one.sources]


def _back(axes: Axes, order: Order, source: Known) -> Axes:
    """Axes of a result as axes of its source."""
    back: list[Axis | None] = [None] * len(source.axes)
    for place, origin in enumerate(order):
        if origin is not None:
            back[origin] = axes[place]
    return tuple(back)


class Operation(NamedTuple):
    """One call of a torch function."""

    name: str
    args: Sequence[Any]
    kwargs: dict[str, Any]
    given: list[Tensor]
    outputs: list[Tensor]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument, given by its place or its name."""
        if name in self.kwargs:
            return self.kwargs[name]
        return self.args[place] if len(self.args) > place else default


class AxisTracker(TorchFunctionMode):
    """Follows axes through the torch functions that are called while it is open.

    >>> import torch
    >>> with AxisTracker() as tracker:
    ...     features = torch.nn.functional.conv2d(torch.zeros(1, 3, 4, 6), torch.zeros(5, 3, 1, 1))
    ...     tokens = features.flatten(2).transpose(1, 2)
    >>> [axis.role for axis in tracker.of(tokens)], tracker.of(tokens)[1].grid
    (['samples', 'positions', 'channels'], (4, 6))
    """

    def __init__(self) -> None:
        super().__init__()
        self._known: Any = WeakTensorKeyDictionary()
        self._grids = False

    def of(self, tensor: Tensor) -> Axes:
        """What is known of a tensor's axes."""
        return self.known(tensor).axes

    def settled(self, axes: Axes) -> Axes:
        """The axes, with unknown ones ``"other"`` where the pass shows the grid of an image.

        Tokens that are not that grid's must not be taken for it because there are as many.
        """
        return (*axes[:1], *(axis or OTHER for axis in axes[1:])) if self._grids else axes

    def known(self, tensor: Tensor) -> Known:
        """The record of a tensor."""
        found = self._known.get(tensor)
        if found is None or found.shape != tuple(tensor.shape):
            found = Known((None,) * tensor.ndim, tuple(tensor.shape))
            self._known[tensor] = found
        return found

    def show(self, tensor: Tensor, axes: Axes, *sources: tuple[Tensor, Order]) -> None:
        """Note what a result's axes hold, and which tensors share them."""
        shape = tuple(tensor.shape)
        if len(axes) != len(shape):
            return
        fitting = tuple(
            a if a and a.fits(size) else None for a, size in zip(axes, shape, strict=True)
        )
        self._grids |= any(axis and (axis.role == "rows" or axis.grid) for axis in fitting)
        kept = [(self.known(source), order) for source, order in sources]
        self._known[tensor] = Known(fitting, shape, kept)

    def demand(self, tensor: Tensor, axes: Axes) -> None:
        """An operation that takes its input in this form says what the input's axes are."""
        if len(axes) == tensor.ndim:
            self.known(tensor).learn(axes)

    def forget(self, tensor: Tensor) -> None:
        """Nothing is known any more of a tensor that was changed."""
        self._known.pop(tensor, None)

    def has_places(self, tensor: Tensor) -> bool:
        """Whether an axis of the tensor is known to hold positions."""
        return any(axis is not None and axis.role in PLACES for axis in self.of(tensor))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Call the function, and conclude from it."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        outputs = _tensors(result)
        if outputs:  # most calls read a property: a shape, a flag
            given = [*_tensors(args), *_tensors(kwargs)]
            if given:
                self._conclude(Operation(_name(func), args, kwargs, given, outputs))
        return result

    def _conclude(self, operation: Operation) -> None:
        try:
            RULES.get(operation.name, unknown)(self, operation)
        # An argument in a form not thought of.
        except (IndexError, TypeError, ValueError, RuntimeError, KeyError, AttributeError):
            with suppress(RuntimeError):
                unknown(self, operation)


def _tensors(value: Any) -> list[Tensor]:
    """The tensors in an argument or a result; some thousand times a pass, so without a pytree."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for one in value for tensor in _tensors(one)]
    return []


def _name(func: Any) -> str:
    """The name of a torch function; of a property of tensors the property's."""
    name = getattr(func, "__name__", "")
    return getattr(func.__self__, "__name__", name) if name == "__get__" else name
