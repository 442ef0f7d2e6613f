"""The modules behind a forward function, which are borrowed while it is explained."""

from __future__ import annotations

import functools
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from torch import nn

from captum_ib.hooks.isolate import borrow
from captum_ib.hooks.register import around_modules
from captum_ib.hooks.undo import Undo, set_gradients

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
        set_gradients(undo, False)
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
