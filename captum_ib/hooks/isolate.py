"""Borrowing a user's model: frozen and in evaluation mode inside, exactly as it was afterwards."""

# torch keeps parameters, buffers and versions under private names.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_ib.hooks.claims import claim
from captum_ib.hooks.switches import shortcuts_off
from captum_ib.hooks.undo import Undo, leave_inference_mode, set_gradients

LARGEST_BUFFER = 2**26
"""Bytes (64 MiB) of a buffer up to which its values are kept, to be put back if ``forward`` changes
them; larger ones are quantised weights and tables, which nothing writes."""


@contextmanager
def borrowed(modules: Sequence[nn.Module]) -> Generator[None]:
    """Freeze all parameters and switch to evaluation mode; all comes back as it was.

    The ``training`` flag of each module, ``requires_grad`` of each parameter, buffers that
    ``forward`` writes, what ``torch.compile`` put in the place of ``forward``. Calls of other
    threads on the same modules wait.

    Inside, gradients are enabled and inference mode is off, whatever the caller's context:
    a fit needs gradients also where the caller (Captum's ``sensitivity_max``) disabled them.

    Raises:
        RuntimeError: another thread has the modules and waits for modules of this thread.
    """
    with Undo() as undo:
        borrow(undo, modules)
        leave_inference_mode(undo)
        set_gradients(undo, True)
        yield


def borrow(undo: Undo, modules: Sequence[nn.Module]) -> None:
    """As :func:`borrowed`, until ``undo`` puts things back; modes of the thread stay."""
    claim(undo, modules)
    shortcuts_off(undo)
    replaced: dict[int, Tensor] = {}
    every = {id(part): part for module in modules for part in module.modules()}
    for module in every.values():
        training = getattr(module, "training", None)  # frozen scripted models have no such flag
        if training is not None:
            undo.note(partial(_put_flag, module, training))
        if training:
            module.training = False
        _uncompile(undo, module)
        _keep_buffers(undo, module, replaced)
        _freeze(undo, module, replaced)


def _put_flag(module: nn.Module, training: bool) -> None:
    if module.training != training:  # ours, or one that forward switched
        module.training = training


def _freeze(undo: Undo, module: nn.Module, replaced: dict[int, Tensor]) -> None:
    entries = module._parameters
    if (
        isinstance(cast(object, entries), dict) and entries
    ):  # forward may put others under their names
        undo.note(partial(entries.update, dict(entries)))
    for name, parameter in list(module.named_parameters(recurse=False)):
        if parameter.is_inference():
            _replace(undo, module._parameters, name, parameter, replaced)
            continue
        undo.note(partial(_put_requires_grad, parameter, parameter.requires_grad))
        if parameter.requires_grad:
            parameter.requires_grad_(False)


def _put_requires_grad(parameter: Tensor, before: bool) -> None:
    if parameter.requires_grad != before:  # ours, or forward's
        parameter.requires_grad_(before)


def _replace(
    undo: Undo, entries: dict[str, Any], name: str, value: Tensor, replaced: dict[int, Tensor]
) -> None:
    """Put a plain copy in the place of a tensor made under ``inference_mode``.

    Autograd saves no such tensor, and its ``requires_grad`` can't be switched on again.
    """
    undo.note(partial(entries.__setitem__, name, value))
    if id(value) not in replaced:
        with torch.inference_mode(False):
            copy = value.detach().clone()
            is_parameter = isinstance(value, nn.Parameter)
            replaced[id(value)] = nn.Parameter(copy, False) if is_parameter else copy
    entries[name] = replaced[id(value)]


def _keep_buffers(undo: Undo, module: nn.Module, replaced: dict[int, Tensor]) -> None:
    """Keep the module's buffers, and their values."""
    entries = module._buffers
    if not isinstance(cast(object, entries), dict):  # a scripted module has its own
        return
    undo.note(partial(_put_entries, entries, dict(entries)))
    for name, buffer in entries.items():
        if buffer is None or is_lazy(buffer):
            continue
        if buffer.is_inference():
            _replace(undo, entries, name, buffer, replaced)
            continue
        version = buffer._version
        if buffer.numel() * buffer.element_size() > LARGEST_BUFFER:
            undo.note(partial(_warn_of, f"{type(module).__name__}.{name}", buffer, version))
        else:
            with torch.inference_mode(False):
                value = buffer.detach().clone()
            undo.note(partial(_put_value, buffer, version, value))


def _put_entries(entries: dict[str, Any], before: dict[str, Any]) -> None:
    for name in [name for name in entries if name not in before]:
        entries.pop(name, None)
    entries.update(before)


def _put_value(buffer: Tensor, version: int, value: Tensor) -> None:
    if buffer._version != version:
        with torch.no_grad():
            buffer.copy_(value)


def _warn_of(name: str, buffer: Tensor, version: int) -> None:
    if buffer._version != version:
        warnings.warn(
            f"forward wrote the buffer {name} of {buffer.numel() * buffer.element_size()} bytes, "
            "too large for a copy to be kept; it stays as forward left it",
            RuntimeWarning,
            stacklevel=2,
        )


def _uncompile(undo: Undo, module: nn.Module) -> None:
    """Run a compiled module as it is written: hooks can't be traced."""
    own = module.__dict__
    children: dict[str, nn.Module] | None = own.get("_modules")
    original = children.get("_orig_mod") if isinstance(children, dict) else None
    if original is not None and "forward" in own:  # torch.compile(module)
        undo.note(partial(own.__setitem__, "forward", own["forward"]))
        own["forward"] = original.__call__
    if own.get("_compiled_call_impl") is not None:  # module.compile()
        undo.note(partial(own.__setitem__, "_compiled_call_impl", own["_compiled_call_impl"]))
        own["_compiled_call_impl"] = None
