"""Replay: while a bottleneck is fitted, what does not depend on it is computed once and reused.

One forward pass with frozen parameters, in which only the bottleneck's result requires grad, shows
what depends on it: a module call whose tensors do not require grad does not. The outputs of the
largest such calls are recorded in call order, and returned instead of being computed again.
"""

# Modes are left by a switch of torch's that has no public name.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from captum_ib.hooks.register import around_modules
from captum_ib.hooks.undo import Undo

PLAIN = (Tensor, type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size)


@dataclass
class _Recorded:
    """The output of one module call, and the axes on which its tensors may carry the samples.

    There are none for what is the same for all samples.
    """

    output: Any
    axes: tuple[int, ...]

    def copy(self, repeats: int, n: int) -> Any:
        """A fresh copy (models write in place), its samples repeated draw by draw."""

        def clone(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            axis = _samples_axis(leaf, n, self.axes)
            if axis is None or repeats == 1:
                return leaf.clone()
            times = [1] * leaf.ndim
            times[axis] = repeats
            return leaf.repeat(times)

        return tree_map(clone, self.output)


def _samples_axis(tensor: Tensor, n: int, axes: tuple[int, ...]) -> int | None:
    """The first of the axes that has ``n`` entries."""
    return next((axis for axis in axes if tensor.ndim > axis and tensor.shape[axis] == n), None)


@dataclass
class _Call:
    """A module call in the recording pass; ``recorded`` is set when nothing in it depends."""

    module: nn.Module
    recorded: _Recorded | None = None
    children: list[_Call] = field(default_factory=list["_Call"])


@dataclass
class Replay:
    """What a recording found: per module, its calls in order, recorded or to be run (``None``)."""

    n: int
    schedule: dict[nn.Module, list[_Recorded | None]]

    @property
    def modules(self) -> list[nn.Module]:
        """The modules of which at least one call is replayed."""
        return list(self.schedule)

    @contextmanager
    def playing(self, repeats: int) -> Generator[None]:
        """Let the recorded modules answer from the record, for one pass of ``repeats`` · n rows.

        Rows are ordered draw by draw: row ``draw * n + sample``. ``forward`` of every module is
        put back on leaving.
        """
        position = dict.fromkeys(self.schedule, 0)
        thread = threading.get_ident()

        def play(module: nn.Module, run: Callable[..., Any]) -> Callable[..., Any]:
            def forward(*args: Any, **kwargs: Any) -> Any:
                if threading.get_ident() != thread:
                    return run(*args, **kwargs)
                calls = self.schedule[module]
                index = position[module]
                if index >= len(calls):
                    raise ReplayMismatch(f"{type(module).__name__} ran more often than recorded")
                position[module] = index + 1
                recorded = calls[index]
                if recorded is None:
                    return run(*args, **kwargs)
                return recorded.copy(repeats, self.n)

            return forward

        with Undo() as undo:
            for module in self.schedule:
                own = module.__dict__
                if "forward" in own:
                    undo.note(partial(own.__setitem__, "forward", own["forward"]))
                else:
                    undo.note(partial(own.pop, "forward", None))
                own["forward"] = play(module, module.forward)
            yield


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
        self._top = _Call(nn.Identity())
        self._stack = [self._top]
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

        def visit(call: _Call) -> None:
            schedule.setdefault(call.module, []).append(call.recorded)
            for child in call.children:
                visit(child)

        for call in self._top.children:
            visit(call)
        return Replay(self.n, {module: calls for module, calls in schedule.items() if any(calls)})

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() != self._thread:
            return
        call = _Call(module)
        self._stack[-1].children.append(call)
        self._stack.append(call)

    def _leave(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if threading.get_ident() != self._thread:
            return
        with torch._C.DisableTorchFunction():  # the recorder's own looks are no part of the pass
            self._record(self._stack.pop(), (args, kwargs), output)

    def _record(self, call: _Call, arguments: Any, output: Any) -> None:
        given, returned = tree_flatten(arguments)[0], tree_flatten(output)[0]
        # An unknown object (a cache, a graph) may carry state from call to call: run those.
        if not all(isinstance(leaf, PLAIN) for leaf in (*given, *returned)):
            return
        tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
        results = [leaf for leaf in returned if isinstance(leaf, Tensor)]
        # Without a tensor to go by, the result may follow a batch size given as a number.
        if not tensors or not results:
            return
        # Nested tensors have no sizes to go by, either.
        if any(tensor.requires_grad or tensor.is_nested for tensor in (*tensors, *results)):
            return
        axes = tuple(range(self.samples_axis + 1))
        batched = any(_samples_axis(tensor, self.n, axes) is not None for tensor in tensors)
        call.recorded = _Recorded(
            tree_map(_cloned, output),
            axes if batched else (),
        )
        call.children.clear()


def _cloned(leaf: Any) -> Any:
    return leaf.clone() if isinstance(leaf, Tensor) else leaf
