"""What a call changes for a while, noted before it is changed, and put back whatever happens.

An interrupt may come between any two lines, also while things are put back. So nothing depends on
one ``finally`` alone: every open :class:`Undo` puts back what the ones opened inside it have left,
and the outermost one (:func:`untouched`) surrounds the whole of ``attribute`` and changes nothing
itself.
"""

# torch's modes have no public door.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from traceback import clear_frames
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")

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


def untouched(function: Callable[P, T]) -> Callable[P, T]:
    """A function that leaves models, and torch's own modes, as it found them.

    The last net: an interrupt that comes in the first instruction of a context's exit keeps that
    exit from running, but not this one.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with Undo() as undo:
            _keep_modes(undo)
            try:
                return function(*args, **kwargs)
            except Exception:
                raise
            except BaseException as interrupt:
                _finish_generators(interrupt)
                raise

    return call


def _finish_generators(interrupt: BaseException | None) -> None:
    """Have contexts made of generators, whose exit was interrupted, run their ``finally`` now.

    They wait in the frames of the traceback, and would run when it is dropped: after all is back.
    """
    while interrupt is not None:
        clear_frames(interrupt.__traceback__)
        interrupt = interrupt.__context__


def set_gradients(undo: Undo, enabled: bool) -> None:
    """Switch gradients on or off in this thread."""
    undo.note(_here(functools.partial(torch.set_grad_enabled, torch.is_grad_enabled())))
    torch.set_grad_enabled(enabled)


def leave_inference_mode(undo: Undo) -> None:
    """Switch the caller's inference mode off in this thread, where it is on."""
    if torch.is_inference_mode_enabled():
        mode: Any = torch._C._InferenceMode(False)
        undo.note(_here(functools.partial(mode.__exit__, None, None, None)))
        mode.__enter__()


def _keep_modes(undo: Undo) -> None:
    """Note the modes of this thread that a ``with`` of torch's changes."""
    undo.note(_here(functools.partial(torch.set_grad_enabled, torch.is_grad_enabled())))
    for device in ("cpu", "cuda"):
        enabled = torch.is_autocast_enabled(device)
        undo.note(_here(functools.partial(torch.set_autocast_enabled, device, enabled)))
    undo.note(_here(functools.partial(_autocast_back_to, _autocast_nesting())))
    keep_function_modes(undo)


def _autocast_nesting() -> int:
    """How many ``autocast`` contexts are open; torch tells only while it counts up or down."""
    return (torch.autocast_increment_nesting() + torch.autocast_decrement_nesting() - 1) // 2


def _autocast_back_to(nesting: int) -> None:
    while _autocast_nesting() > nesting:
        torch.autocast_decrement_nesting()


def keep_function_modes(undo: Undo) -> None:
    """Note which function modes are on in this thread: torch's own exit only takes off the last."""
    undo.note(_here(functools.partial(_function_modes_back_to, _function_modes())))


def _function_modes() -> list[Any]:
    count = torch._C._len_torch_function_stack()
    return [torch._C._get_function_stack_at(index) for index in range(count)]


def _function_modes_back_to(modes: list[Any]) -> None:
    now = _function_modes()
    same = 0
    while same < min(len(now), len(modes)) and now[same] is modes[same]:
        same += 1
    for _ in now[same:]:
        torch._C._pop_torch_function_stack()
    for mode in modes[same:]:
        torch._C._push_on_torch_function_stack(mode)


def _here(step: Callable[[], object]) -> Callable[[], object]:
    """A step that concerns this thread only, when another one puts things back for it."""
    thread = threading.get_ident()
    return lambda: step() if threading.get_ident() == thread else None
