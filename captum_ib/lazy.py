"""Names of a package that are imported when first used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, homes: Mapping[str, str], submodules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A package's ``__getattr__``, ``__dir__`` and ``__all__``.

    Type checkers don't see these: the package also imports the names, under ``TYPE_CHECKING``.

    Args:
        package: its ``__name__``.
        homes: the module that each public name comes from, dotted, or within the package if it
            starts with a dot.
        submodules: modules of the package that are public too.

    >>> get, _, names = attach("captum_ib.zoo", {"load": ".loading"}, ["scenes"])
    >>> names, get("load").__module__
    (['load', 'scenes'], 'captum_ib.zoo.loading')
    """
    modules = frozenset(submodules)
    names = sorted([*homes, *modules])

    def get(name: str) -> Any:
        if name in homes:
            value = getattr(import_module(homes[name], package), name)
        elif name in modules:
            value = import_module(f".{name}", package)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)  # the next access does not come through here
        return value

    return get, lambda: list(names), names


def at_front_door(name: str) -> Any:
    """What the package offers by this name, for a method that is only a shorter way to it.

    ``loaded.explain(…)`` is ``captum_ib.explain(loaded, …)``: what a model's object offers as a
    method is done in a room above it, which its own room does not import.

    >>> at_front_door("load").__module__
    'captum_ib.loading.load'
    """
    return getattr(import_module("captum_ib"), name)
