"""Write the public names of the package with their signatures, one to a line.

``python -m tests.public_api > tests/public_api.txt`` accepts what has changed.
"""

from __future__ import annotations

import inspect
import re
import sys
from importlib import import_module
from types import ModuleType
from typing import Any, get_origin

ROOMS = (
    "captum_ib",
    "captum_ib.attr",
    "captum_ib.attr.base",
    "captum_ib.baselines",
    "captum_ib.baselines.one_layer",
    "captum_ib.benchmark",
    "captum_ib.bottleneck",
    "captum_ib.collapse",
    "captum_ib.curve",
    "captum_ib.forward",
    "captum_ib.hooks",
    "captum_ib.layout",
    "captum_ib.loading",
    "captum_ib.methods",
    "captum_ib.metrics",
    "captum_ib.metrics.funnybirds",
    "captum_ib.models",
    "captum_ib.report",
    "captum_ib.visualization",
    "captum_ib.zoo",
    "captum_ib.zoo.relations",
    "captum_ib.zoo.scenes",
)


def lines() -> list[str]:
    """The public API, sorted."""
    return [line for room in ROOMS for line in _room(room)]


def _room(room: str) -> list[str]:
    module = import_module(room)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == room
    ]
    found = []
    for name in sorted(names):
        found += _described(f"{room}.{name}", getattr(module, name))
    return found


def _described(path: str, value: Any) -> list[str]:
    if isinstance(value, ModuleType):
        return [f"{path}: module"]
    if inspect.isclass(value):
        own = sorted(name for name in dir(value) if _is_ours(value, name))
        return [f"{path}: class", *(line for name in own for line in _member(path, value, name))]
    if get_origin(value) is not None:
        return [f"{path} = {value}"]
    if callable(value):
        return [f"{path}{_signature(value)}"]
    return [f"{path}: {type(value).__name__}"]


def _is_ours(cls: type, name: str) -> bool:
    """Whether a public member is defined in this package rather than inherited from elsewhere."""
    if name.startswith("_") and name not in ("__init__", "__call__"):
        return False
    home = next(base for base in cls.__mro__ if name in vars(base))
    return home.__module__.startswith("captum_ib")


def _member(path: str, cls: type, name: str) -> list[str]:
    value = inspect.getattr_static(cls, name)
    if isinstance(value, property):
        return [f"{path}.{name}: property"]
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    if callable(value):
        return [f"{path}.{name}{_signature(value)}"]
    return []  # an attribute: the constructor says it


def _signature(value: Any) -> str:
    """Parameters with their defaults; without annotations, which say nothing about a call."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return "(...)"
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    print("\n".join(lines()))
