"""Borrowing a user's model: frozen and in evaluation mode inside, exactly as it was afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)


@contextmanager
def borrowed(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Freeze all parameters and switch to evaluation mode; restore each flag of each module.

    Inside, gradients are enabled and inference mode is off, whatever the caller's context:
    a fit needs gradients also where the caller (Captum's ``sensitivity_max``) disabled them.
    """
    training = [(module, module.training) for root in modules for module in root.modules()]
    flags = [
        (parameter, parameter.requires_grad) for root in modules for parameter in root.parameters()
    ]
    try:
        for module, _ in training:
            module.training = False
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        for module, flag in training:
            module.training = flag
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def roots(forward_func: Callable[..., Any], run: Callable[[], Any]) -> list[nn.Module]:
    """The modules behind a forward function: itself, or the outermost ones that it calls.

    To find them, ``run`` is called once, without gradients and in evaluation mode.

    Args:
        forward_func: a module, or any callable.
        run: calls it; only used when it is no module.
    """
    if isinstance(forward_func, nn.Module):
        return [forward_func]
    found: dict[int, nn.Module] = {}
    training: list[nn.Module] = []
    depth = 0
    thread = threading.get_ident()

    def enter(module: nn.Module, args: tuple) -> None:
        nonlocal depth
        if threading.get_ident() == thread:
            if depth == 0:
                found[id(module)] = module
            depth += 1
            if module.training:
                training.append(module)
                module.training = False

    def leave(module: nn.Module, args: tuple, output: Any) -> None:
        nonlocal depth
        if threading.get_ident() == thread:
            depth -= 1

    handles = []
    try:
        handles.append(register_module_forward_pre_hook(enter))
        handles.append(register_module_forward_hook(leave))
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
        for module in training:
            module.training = True
    return list(found.values())
