"""Borrowing a user's model: which modules it has, frozen and in evaluation mode for a while."""

# torch keeps parameters, buffers and versions under private names.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import functools
import threading
import types
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_ib.hooks.threads import claim, shortcuts_off
from captum_ib.hooks.undo import Undo, around_modules, keep_modes

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
        keep_modes(undo, gradients=True)
        yield


def borrow(undo: Undo, modules: Sequence[nn.Module]) -> None:
    """As :func:`borrowed`, until ``undo`` puts things back; modes of the thread stay."""
    claim(undo, modules)
    shortcuts_off(undo)
    replaced: dict[int, Tensor] = {}
    for module in {id(part): part for each in modules for part in each.modules()}.values():
        if getattr(module, "training", None) is not None:  # frozen scripted models have none
            undo.keep(module, "training")
            if module.training:
                module.training = False
        _uncompile(undo, module)
        _keep_buffers(undo, module, replaced)
        entries = module._parameters
        if isinstance(cast(object, entries), dict) and entries:  # forward may put in others
            undo.note(partial(entries.update, dict(entries)))
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_inference():
                _replace(undo, entries, name, parameter, replaced)
                continue
            undo.keep(parameter, "requires_grad")
            if parameter.requires_grad:
                parameter.requires_grad_(False)


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


DEPTH = 3
"""How many functions and objects deep modules are looked for in what a function refers to."""


def roots(forward_func: Callable[..., Any], run: Callable[[], Any]) -> list[nn.Module]:
    """The modules behind a forward function: itself, or the outermost ones that it uses.

    To find them, ``run`` is called once, without gradients and in evaluation mode. Modules that
    the function calls are seen; a module that it does not call as one (``model.forward``,
    ``model.encode_image``) is found where the function refers to it.

    Args:
        forward_func: a module, or any callable.
        run: calls it; only used when it is no module.
    """
    if isinstance(forward_func, nn.Module):
        return [forward_func]
    near = list({id(module): module for module in _within_reach(forward_func, DEPTH)}.values())
    with Undo() as undo:
        borrow(undo, near)
        keep_modes(undo, gradients=False)
        called = _called(undo, run)
    bound = getattr(forward_func, "__self__", None)
    ran = {id(module) for module in called}
    used = [
        module
        for module in near
        if module is bound
        or not any(module.children())
        or any(id(part) in ran for part in module.modules())
    ]
    return _outermost([*used, *called])


def _called(undo: Undo, run: Callable[[], Any]) -> list[nn.Module]:
    """The outermost modules that are called; each is borrowed while it runs."""
    found: list[nn.Module] = []
    stack: list[Undo] = []
    thread = threading.get_ident()

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == thread:
            own = Undo()
            if not stack:
                found.append(module)
                undo.note(own.restore)  # should its forward raise
                borrow(own, [module])
            stack.append(own)

    def leave(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        if threading.get_ident() == thread:
            stack.pop().restore()

    around_modules(undo, enter, leave)
    run()
    return found


def _outermost(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Each once, without those inside another one."""
    each = list({id(module): module for module in modules}.values())
    inside = {id(part) for module in each for part in module.modules() if part is not module}
    return [module for module in each if id(module) not in inside]


def _within_reach(value: Any, depth: int) -> Iterator[nn.Module]:
    """Modules that a callable refers to: bound to it, in its closure, by a global name."""
    if isinstance(value, nn.Module):
        yield value
    elif depth > 0:
        for other in _referred(value):
            yield from _within_reach(other, depth - 1)


def _referred(value: Any) -> Iterable[Any]:
    if isinstance(value, types.MethodType):
        owner = value.__self__
        return (owner,) if isinstance(owner, nn.Module) else getattr(owner, "__dict__", {}).values()
    if isinstance(value, functools.partial):
        return (value.func, *value.args, *value.keywords.values())
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        names = [name for name in value.__code__.co_names if name in value.__globals__]
        return (*cells, *(value.__globals__[name] for name in names), *(value.__defaults__ or ()))
    if isinstance(value, (list, tuple)):
        return cast(Iterable[Any], value)
    if isinstance(value, dict):
        return cast(dict[Any, Any], value).values()
    if isinstance(value, (type, types.ModuleType)) or not callable(value):
        return ()
    return getattr(value, "__dict__", {}).values()


def _filled(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that has no value yet
        return False
