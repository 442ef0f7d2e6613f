"""What a call changes for a while, noted before it is changed, and put back whatever happens.

An interrupt may come between any two lines, also while things are put back. So nothing depends on
one ``finally`` alone: every open :class:`Undo` puts back what the ones opened inside it have left,
and the outermost one (:func:`untouched`) surrounds the whole of ``attribute`` and changes nothing
itself.
"""

# torch keeps its modes and hooks under private names, untyped.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from traceback import clear_frames
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn
from torch.nn.modules import module as everywhere

_C: Any = torch._C  # typed in part
Hook = Callable[..., Any]
P = ParamSpec("P")
T = TypeVar("T")

lock = threading.RLock()
"""For what all threads share: torch's tables of hooks, its switches, and who has which model.

One of C: an interrupt can't come between taking it and the ``with`` that frees it.
"""
if hasattr(os, "register_at_fork"):  # a thread that the child does not have may have held it
    os.register_at_fork(after_in_child=lock._at_fork_reinit)  # pyright: ignore[reportAttributeAccessIssue]

ATTEMPTS = 3
"""How often a step is tried: a second interrupt may come while the first is dealt with."""


class _Opened(threading.local):
    """The open :class:`Undo` of this thread, the outermost first."""

    def __init__(self) -> None:
        self.entries: list[Undo] = []


_opened = _Opened()


class Undo:
    """A context that puts back what was noted in it, the last first, however it is left.

    >>> changed = {"flag": True}
    >>> with Undo() as undo:
    ...     undo.note(lambda: changed.update(flag=True))
    ...     changed["flag"] = False
    >>> changed
    {'flag': True}
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], object]] = []

    def note(self, step: Callable[[], object]) -> None:
        """Have ``step`` called on leaving. To be noted *before* what it puts back is changed.

        A step may be called more than once, and also when nothing was changed yet.
        """
        self._steps.append(step)

    def keep(self, owner: Any, name: str) -> None:
        """Have an attribute set back on leaving, if it is another one by then."""
        self.note(partial(_put, owner, name, getattr(owner, name)))

    def restore(self) -> None:
        """Put everything back now. An exception that comes meanwhile is raised when all is done."""
        raised: BaseException | None = None
        while self._steps:
            for _ in range(ATTEMPTS):
                try:
                    self._steps[-1]()
                    break
                except BaseException as error:  # noqa: BLE001 - raised below
                    raised = raised or error
            self._steps.pop()
        if raised is not None:
            raise raised

    def __enter__(self) -> Undo:
        _opened.entries.append(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Put back also what contexts opened inside have left: their end was interrupted."""
        entries = _opened.entries
        if self not in entries:
            self.restore()  # an outer one has done it, unless this is another thread
            return
        raised: BaseException | None = None
        open_still = True
        while open_still:
            last = entries[-1]
            try:
                last.restore()
            except BaseException as error:  # noqa: BLE001 - raised below
                raised = raised or error
            if not last._steps:
                open_still = last is not self
                entries.pop()
        if raised is not None:
            raise raised


def _put(owner: Any, name: str, value: Any) -> None:
    if getattr(owner, name) is not value:
        setattr(owner, name, value)


def untouched(function: Callable[P, T]) -> Callable[P, T]:
    """A function that leaves models, and torch's own modes, as it found them.

    The last net: an interrupt that comes in the first instruction of a context's exit keeps that
    exit from running, but not this one.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with Undo() as undo:
            undo.note(partial(_let_go, threading.get_ident()))
            keep_modes(undo)
            try:
                return function(*args, **kwargs)
            except Exception:
                raise
            except BaseException as interrupt:
                _finish_generators(interrupt)
                raise

    return call


def _let_go(thread: int) -> None:
    """Free :data:`lock`, where the end of a ``with`` that held it was interrupted."""
    with suppress(RuntimeError):  # not held
        while threading.get_ident() == thread:
            lock.release()


def _finish_generators(interrupt: BaseException | None) -> None:
    """Have contexts made of generators, whose exit was interrupted, run their ``finally`` now.

    They wait in the frames of the traceback, and would run when it is dropped: after all is back.
    """
    while interrupt is not None:
        clear_frames(interrupt.__traceback__)
        interrupt = interrupt.__context__


def keep_modes(undo: Undo, gradients: bool | None = None) -> None:
    """Keep the modes of this thread that a ``with`` of torch's changes, until ``undo``.

    Args:
        undo: puts them back.
        gradients: whether to switch gradients on, and inference mode off, or gradients off.
    """
    enabled = torch.is_grad_enabled()
    inference: Any = _C._InferenceMode(torch.is_inference_mode_enabled() and not gradients)
    autocast = {device: torch.is_autocast_enabled(device) for device in ("cpu", "cuda")}
    functions = (_C._get_torch_function_state(), _function_modes())
    before = (enabled, autocast, _autocast_nesting(), *functions)
    undo.note(partial(_modes_back, threading.get_ident(), inference, *before))
    torch.set_grad_enabled(enabled if gradients is None else gradients)  # its making changed them


def _modes_back(
    thread: int,
    inference: Any,
    gradients: bool,
    autocast: dict[str, bool],
    nesting: int,
    overrides: Any,
    functions: list[Any],
) -> None:
    if threading.get_ident() != thread:  # another one puts things back for it
        return
    inference.__exit__(None, None, None)
    torch.set_grad_enabled(gradients)
    for device, enabled in autocast.items():
        torch.set_autocast_enabled(device, enabled)
    while _autocast_nesting() > nesting:
        torch.autocast_decrement_nesting()
    _C._set_torch_function_state(overrides)
    now = _function_modes()  # torch's own exit only takes off the last, whichever it is
    same = 0
    while same < min(len(now), len(functions)) and now[same] is functions[same]:
        same += 1
    for _ in now[same:]:
        _C._pop_torch_function_stack()
    for mode in functions[same:]:
        _C._push_on_torch_function_stack(mode)


def _autocast_nesting() -> int:
    """How many ``autocast`` contexts are open; torch tells only while it counts up or down."""
    return (torch.autocast_increment_nesting() + torch.autocast_decrement_nesting() - 1) // 2


def _function_modes() -> list[Any]:
    count = _C._len_torch_function_stack()
    return [_C._get_function_stack_at(index) for index in range(count)]


def before_layer(undo: Undo, layer: nn.Module, hook: Hook) -> None:
    """Call ``hook(layer, args, kwargs)`` before the layer runs, until ``undo``.

    Under the lock: torch's handles count without one, and two threads could get the same number.
    """
    tables = (layer._forward_pre_hooks, layer._forward_pre_hooks_with_kwargs)
    undo.note(partial(_unhook, hook, tables))
    with lock:
        layer.register_forward_pre_hook(hook, with_kwargs=True)


def after_layer(undo: Undo, layer: nn.Module, hook: Hook) -> None:
    """Call ``hook(layer, args, kwargs, output)`` after the layer ran, until ``undo``."""
    flags = (layer._forward_hooks_with_kwargs, layer._forward_hooks_always_called)
    undo.note(partial(_unhook, hook, (layer._forward_hooks, *flags)))
    with lock:
        layer.register_forward_hook(hook, with_kwargs=True)


def around_modules(undo: Undo, before: Hook, after: Hook) -> None:
    """Call ``before(module, args)`` and ``after(module, args, kwargs, output)`` for any module."""
    flags = (
        everywhere._global_forward_hooks_with_kwargs,
        everywhere._global_forward_hooks_always_called,
    )
    undo.note(partial(_unhook, before, (everywhere._global_forward_pre_hooks,)))
    undo.note(partial(_unhook, after, (everywhere._global_forward_hooks, *flags)))
    with lock:
        everywhere.register_module_forward_pre_hook(before)
        everywhere.register_module_forward_hook(after, with_kwargs=True)


def _unhook(hook: Hook, tables: Sequence[dict[int, Any]]) -> None:
    """Take a hook off, known by its function, not by its handle.

    The handle does not exist yet when an interrupt comes between the entry and the ``return`` of
    torch's ``register_…``, and that of a hook on all modules leaves an entry behind.
    """
    hooks, *flags = tables
    with lock:
        for key in [key for key, value in hooks.items() if value is hook]:
            for entries in flags:
                entries.pop(key, None)
            hooks.pop(key, None)
