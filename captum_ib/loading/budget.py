"""See what a configuration asks for before it is built: without memory, and in bounded time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from captum_ib.loading.files import refusing
from captum_ib.loading.loaded import FolderError

MAX_MODULES = 20_000
"""Modules of a model; the largest that timm and transformers have hold about 5,000."""
MAX_ROW = 10_000
"""Numbers in a row that a model reads its layers' rates from."""
MAX_UNTRAINED = 2 * 10**9
"""Numbers in a model without a weights file to measure it by: the largest image classifiers."""
SLACK = 2**22
"""Numbers that a model may hold beside those of its file, as tables of positions."""


def check_size(build: Callable[[], nn.Module], file_bytes: int | None, where: object) -> None:
    """Build a model without memory, and compare its size with that of its weights.

    Every number takes at least one byte in a weights file, so a model that holds more numbers than
    its file has bytes can't be the one that the file belongs to.

    Args:
        build: what will build the model.
        file_bytes: size of its weights; ``None`` when it is to have random ones.
        where: the configuration, for errors.

    Raises:
        FolderError: the model is too large for its weights, or can't be built.
    """
    most = MAX_MODULES
    if file_bytes is not None:  # a small file can't hold the numbers of so many modules
        most = min(most, 2_000 + file_bytes // 64)
    with (
        refusing(f"{where} describes no model that can be built"),
        _counted(most, where),
        _shapes(),
    ):
        model = build()
    tensors = {id(tensor): tensor.numel() for tensor in (*model.parameters(), *model.buffers())}
    found = sum(tensors.values())
    limit = MAX_UNTRAINED if file_bytes is None else file_bytes + SLACK
    if found > limit:
        given = "random weights" if file_bytes is None else f"weights of {file_bytes:,} bytes"
        raise FolderError(f"{where} describes a model of {found:,} numbers, too large for {given}")


@contextmanager
def _counted(most: int, where: object) -> Iterator[None]:
    """Stop at a model of absurdly many modules while it is being built."""
    here, count = threading.get_ident(), 0

    def register(module: nn.Module, name: str, submodule: Any) -> None:
        nonlocal count
        if threading.get_ident() != here:
            return
        count += 1
        if count > most:
            raise FolderError(
                f"{where} describes a model of more than {most:,} modules, too large for its "
                "weights"
            )

    handle = register_module_module_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _shapes() -> Iterator[None]:
    """Tensors made inside have a shape and no memory, except short rows of numbers."""
    with torch.device("meta"), _Rows():
        yield


class _Rows(TorchFunctionMode):
    """Rows of numbers stay on the CPU: models read the rates of their layers from them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            steps = kwargs.get("steps", args[2] if len(args) > 2 else 0)
            if steps > MAX_ROW:
                raise ValueError(f"a row of {steps} numbers is too long")
            kwargs["device"] = "cpu"
        elif func is torch.tensor:  # of numbers that are in memory already
            kwargs["device"] = "cpu"
        return func(*args, **kwargs)
