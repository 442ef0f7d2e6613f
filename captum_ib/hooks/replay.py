"""Replay: while a bottleneck is fitted, what does not depend on it is computed once and reused.

One forward pass with frozen parameters, in which only the bottleneck's result requires grad, shows
what depends on it: a module call whose tensors do not require grad does not. The outputs of the
largest such calls are recorded in call order, and returned instead of being computed again.
"""

# Modes are left by a switch of torch's that has no public name.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from captum_ib.hooks.undo import Undo, around_modules

PLAIN = (Tensor, type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size)


@dataclass
class _Recorded:
    """The output of one module call: its leaves, with the axis on which each has the samples.

    There is none (``None``) for what is the same for all samples.
    """

    leaves: list[tuple[Any, int | None]]
    spec: TreeSpec


def _copied(leaf: Any, axis: int | None = None, repeats: int = 1) -> Any:
    """A fresh copy (models write in place), its samples repeated draw by draw."""
    if not isinstance(leaf, Tensor):
        return leaf
    if axis is None or repeats == 1:
        return leaf.clone()
    times = [1] * leaf.ndim
    times[axis] = repeats
    return leaf.repeat(times)


@dataclass
class Replay:
    """What a recording found: per module, its calls in order, recorded or to be run (``None``)."""

    schedule: dict[nn.Module, list[_Recorded | None]]

    @property
    def modules(self) -> list[nn.Module]:
        """The modules of which at least one call is replayed."""
        return list(self.schedule)

    @property
    def unsure(self) -> bool:
        """Whether a tensor that was recorded shows no axis of samples: shared, or folded."""
        recorded = (call for calls in self.schedule.values() for call in calls if call is not None)
        leaves = (leaf for call in recorded for leaf in call.leaves)
        return any(axis is None and isinstance(leaf, Tensor) and leaf.ndim for leaf, axis in leaves)

    def with_axes_of(self, other: Replay, times: int) -> Replay | None:
        """The same record, its samples on the axes that a pass of ``times`` as many rows shows.

        A size that stays is shared by all samples; an axis that grows as the rows do holds them,
        alone or folded with others (tiles, windows, positions).

        Returns:
            ``None`` where the passes differ in anything else.
        """
        if self.schedule.keys() != other.schedule.keys():
            return None
        schedule: dict[nn.Module, list[_Recorded | None]] = {}
        for module, calls in self.schedule.items():
            others = other.schedule[module]
            if len(calls) != len(others):
                return None
            found = [_regrown(one, two, times) for one, two in zip(calls, others, strict=True)]
            if [one is None for one in found] != [one is None for one in calls]:
                return None
            schedule[module] = found
        return Replay(schedule)

    @contextmanager
    def playing(self, repeats: int) -> Generator[None]:
        """Let the recorded modules answer from the record, for one pass of ``repeats`` · n rows.

        Rows are ordered draw by draw: row ``draw * n + sample``. ``forward`` of every module is
        put back on leaving.
        """
        thread = threading.get_ident()
        with Undo() as undo:
            for module, calls in self.schedule.items():
                own = module.__dict__
                if "forward" in own:
                    undo.note(partial(own.__setitem__, "forward", own["forward"]))
                else:
                    undo.note(partial(own.pop, "forward", None))
                answer = partial(_answer, module.forward, iter(calls), repeats, thread)
                own["forward"] = answer
            yield


def _regrown(one: _Recorded | None, two: _Recorded | None, times: int) -> _Recorded | None:
    """A call's record with its axes of samples; ``None`` where they can't be told."""
    if one is None or two is None or len(one.leaves) != len(two.leaves):
        return None
    leaves: list[tuple[Any, int | None]] = []
    for (leaf, _), (grown, _) in zip(one.leaves, two.leaves, strict=True):
        if not isinstance(leaf, Tensor):
            leaves.append((leaf, None))
            continue
        sizes = zip(leaf.shape, grown.shape, strict=False)
        axes = [axis for axis, (old, new) in enumerate(sizes) if old != new]
        grew = [leaf.shape[axis] * times == grown.shape[axis] for axis in axes]
        if leaf.ndim != grown.ndim or len(axes) > 1 or not all(grew):
            return None
        leaves.append((leaf, axes[0] if axes else None))
    return _Recorded(leaves, one.spec)


def _answer(
    run: Callable[..., Any],
    calls: Iterator[_Recorded | None],
    repeats: int,
    thread: int,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Stands in for a module's ``forward``."""
    if threading.get_ident() != thread:
        return run(*args, **kwargs)
    try:
        recorded = next(calls)
    except StopIteration:
        owner = getattr(run, "__self__", run)
        raise ReplayMismatch(f"{type(owner).__name__} ran more often than recorded") from None
    if recorded is None:
        return run(*args, **kwargs)
    return tree_unflatten([_copied(*leaf, repeats) for leaf in recorded.leaves], recorded.spec)


class ReplayMismatch(RuntimeError):
    """A replayed pass took another way through the model than the recorded one."""


class Recorder:
    """Watches one forward pass and builds the :class:`Replay` from it.

    Open it *before* the bottleneck's hooks are called: module-wide hooks run ahead of a module's
    own, so a hooked layer's raw output is recorded and the bottleneck's result counts as its
    parent's. The parameters must be frozen.

    Args:
        n: samples in the batch.
        samples_axis: 1 where modules may take the sequence first: tensors that have no samples in
            front are then looked at for samples on axis 1.
    """

    def __init__(self, n: int, samples_axis: int = 0) -> None:
        self.n = n
        self.samples_axis = samples_axis
        self._calls: list[tuple[nn.Module, _Recorded | None]] = []
        self._open: list[int] = []  # of the calls that have not returned, their places in the list
        self._thread = threading.get_ident()

    @contextmanager
    def recording(self) -> Generator[Recorder]:
        """Record the module calls made inside."""
        with Undo() as undo:
            around_modules(undo, self._enter, self._leave)
            yield self

    def replay(self) -> Replay:
        """What was recorded."""
        schedule: dict[nn.Module, list[_Recorded | None]] = {}
        for module, recorded in self._calls:
            schedule.setdefault(module, []).append(recorded)
        return Replay({module: calls for module, calls in schedule.items() if any(calls)})

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == self._thread:
            self._open.append(len(self._calls))
            self._calls.append((module, None))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        place = self._open.pop()
        with torch._C.DisableTorchFunction():  # the recorder's own looks are no part of the pass
            recorded = self._recorded((args, kwargs), output)
        if recorded is not None:
            self._calls[place:] = [(module, recorded)]  # the calls inside need not be made

    def _recorded(self, arguments: Any, output: Any) -> _Recorded | None:
        """A call's output, if nothing in it depends on the bottlenecks."""
        if isinstance(output, Tensor) and output.requires_grad:  # at once, for most modules
            return None
        given = tree_leaves(arguments)
        returned, spec = tree_flatten(output)
        # An unknown object (a cache, a graph) may carry state from call to call: run those.
        if not all(isinstance(leaf, PLAIN) for leaf in (*given, *returned)):
            return None
        tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
        results = [leaf for leaf in returned if isinstance(leaf, Tensor)]
        # Without a tensor to go by, the result may follow a batch size given as a number.
        if not tensors or not results:
            return None
        # Nested tensors have no sizes to go by, either.
        if any(tensor.requires_grad or tensor.is_nested for tensor in (*tensors, *results)):
            return None
        batched = any(self._axis(tensor) is not None for tensor in tensors)
        axes = [self._axis(leaf) if batched else None for leaf in returned]
        leaves = [(_copied(leaf), axis) for leaf, axis in zip(returned, axes, strict=True)]
        return _Recorded(leaves, spec)

    def _axis(self, leaf: Any) -> int | None:
        """The first axis that has ``n`` entries, of those that may carry the samples."""
        shape = leaf.shape[: self.samples_axis + 1] if isinstance(leaf, Tensor) else ()
        return next((axis for axis, size in enumerate(shape) if size == self.n), None)
