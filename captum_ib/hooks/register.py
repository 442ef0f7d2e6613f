"""Hooks that are gone again also when an interrupt comes while they are registered.

A hook is known by its function, not by its handle: the handle does not exist yet when an interrupt
comes between the entry and the ``return`` of torch's ``register_…``, and that of a hook on all
modules leaves an entry behind.
"""

# torch keeps its hooks under private names, untyped.
# pyright: reportPrivateUsage=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules import module as everywhere
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from captum_ib.hooks.undo import Undo

Hook = Callable[..., Any]
Entries = dict[int, Any]

_lock = threading.RLock()
"""torch's handles count without a lock: two threads could be given the same number."""


def before_layer(undo: Undo, layer: nn.Module, hook: Hook) -> None:
    """Call ``hook(layer, args, kwargs)`` before the layer runs, until ``undo``."""
    _note(undo, layer._forward_pre_hooks, [layer._forward_pre_hooks_with_kwargs], hook)
    with _lock:
        layer.register_forward_pre_hook(hook, with_kwargs=True)


def after_layer(undo: Undo, layer: nn.Module, hook: Hook) -> None:
    """Call ``hook(layer, args, kwargs, output)`` after the layer ran, until ``undo``."""
    more = [layer._forward_hooks_with_kwargs, layer._forward_hooks_always_called]
    _note(undo, layer._forward_hooks, more, hook)
    with _lock:
        layer.register_forward_hook(hook, with_kwargs=True)


def around_modules(undo: Undo, before: Hook, after: Hook) -> None:
    """Call ``before(module, args)`` and ``after(module, args, kwargs, output)`` for any module."""
    _note(undo, everywhere._global_forward_pre_hooks, [], before)
    more = [
        everywhere._global_forward_hooks_with_kwargs,
        everywhere._global_forward_hooks_always_called,
    ]
    _note(undo, everywhere._global_forward_hooks, more, after)
    with _lock:
        register_module_forward_pre_hook(before)
        register_module_forward_hook(after, with_kwargs=True)


def _note(undo: Undo, hooks: Entries, more: list[Entries], hook: Hook) -> None:
    undo.note(partial(_remove, hooks, more, hook))


def _remove(hooks: Entries, more: list[Entries], hook: Hook) -> None:
    with _lock:
        for key in [key for key, value in hooks.items() if value is hook]:
            for entries in more:
                entries.pop(key, None)
            hooks.pop(key, None)
