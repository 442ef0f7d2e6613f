"""Finding the activation in whatever a layer takes or returns, and putting another one there."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeGuard, cast

from torch import Tensor

Put = Callable[[Tensor], Any]
"""Activation → the whole value with that activation in the place of the old one."""


def writable(value: Tensor) -> Tensor:
    """The tensor, or a copy where layers behind could not write it in place, or should not.

    Not writable are leaves (a caller's own tensor, or one that gradients are taken to), views of
    them, and expanded tensors, of which several elements are one.
    """
    base = value._base  # pyright: ignore[reportPrivateUsage]: torch names it nowhere else
    owner = value if base is None else base
    expanded = any(
        stride == 0 and size > 1 for stride, size in zip(value.stride(), value.shape, strict=True)
    )
    return value.clone() if owner.is_leaf or expanded else value


def is_activation(value: object) -> TypeGuard[Tensor]:
    """A floating-point tensor with a sample axis."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0


def locate(value: Any) -> tuple[Tensor, Put] | None:
    """The first activation in a layer's output, and how to replace it.

    A tensor is itself; of a tuple, a list or a mapping (transformers' ``ModelOutput`` is one) it
    is the first floating-point tensor. ``None`` when there is none.

    >>> import torch
    >>> tensor, put = locate((torch.zeros(2), None))
    >>> put(torch.ones(2))
    (tensor([1., 1.]), None)
    """
    if isinstance(value, Tensor):
        return (value, lambda new: new) if is_activation(value) else None
    if isinstance(value, Mapping):
        return _locate_in_mapping(cast(Mapping[Any, Any], value))
    if isinstance(value, (tuple, list)):
        return _locate_in_sequence(cast(tuple[Any, ...], value))
    return None


def _locate_in_mapping(value: Mapping[Any, Any]) -> tuple[Tensor, Put] | None:
    for key, entry in value.items():
        if is_activation(entry):

            def put(new: Tensor, key: Any = key) -> Any:
                replaced: Any = copy.copy(value)
                replaced[key] = new
                return replaced

            return entry, put
    return None


def _locate_in_sequence(value: tuple[Any, ...] | list[Any]) -> tuple[Tensor, Put] | None:
    kind: Callable[..., Any] = type(value)
    for index, entry in enumerate(value):
        if is_activation(entry):

            def put(new: Tensor, index: int = index) -> Any:
                entries: list[Any] = [*value[:index], new, *value[index + 1 :]]
                if hasattr(value, "_fields"):  # a namedtuple takes its entries one by one
                    return kind(*entries)
                return kind(entries)

            return entry, put
    return None


def locate_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Put] | None:
    """The activation among a layer's arguments: the first positional one, else ``hidden_states``,
    else the first keyword one. The second part gives the new ``(args, kwargs)``."""
    found = _locate_in_sequence(args)
    if found is not None:
        tensor, put_args = found
        return tensor, lambda new: (put_args(new), kwargs)
    named: dict[str, Any] = {"hidden_states": kwargs.get("hidden_states"), **kwargs}
    for key, entry in named.items():
        if is_activation(entry):
            return entry, partial(_put_named, args, kwargs, key)
    return None


def _put_named(args: tuple[Any, ...], kwargs: dict[str, Any], key: str, new: Tensor) -> Any:
    return args, {**kwargs, key: new}
