"""The table of methods: what the command line, the benchmark and the tests know about each.

A new method is one file with its class and one row in one of the tables here.

>>> from captum_ib import methods
>>> methods.get("m2ib").unit
'bits'
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from captum_ib.methods.bottlenecks import BOTTLENECKS
from captum_ib.methods.captums import CAPTUMS
from captum_ib.methods.comparators import COMPARATORS
from captum_ib.methods.spec import Kind, MethodSpec

__all__ = ["METHODS", "Kind", "MethodSpec", "for_kind", "get", "settings_for"]

METHODS: dict[str, MethodSpec] = {row.name: row for row in (*BOTTLENECKS, *CAPTUMS, *COMPARATORS)}


def get(name: str) -> MethodSpec:
    """The row of a method, by its name in any case.

    Raises:
        ValueError: there is no such method; the message lists the nearest names.

    >>> get("CoIBA").title
    'CoIBA'
    """
    row = METHODS.get(name.lower())
    if row is None:
        near = difflib.get_close_matches(name.lower(), METHODS, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise ValueError(f"unknown method {name!r}; {hint}all: {', '.join(METHODS)}")
    return row


def for_kind(kind: Kind) -> list[MethodSpec]:
    """The methods that explain this kind of model, ours first.

    >>> [row.name for row in for_kind("dual")][:2]
    ['m2ib', 'nib']
    """
    return [row for row in METHODS.values() if kind in row.takes]


def settings_for(rows: Iterable[MethodSpec], given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Keywords of ``attribute`` for each method, from the general settings that were given.

    Args:
        rows: the methods.
        given: ``beta``, ``steps``, ``samples``, ``seed``; ``None`` stands for the default. A method
            that has no such setting does without.

    Raises:
        ValueError: none of the methods has a setting that was given (``seed`` may always be given).

    >>> settings_for([get("m2ib"), get("nib")], {"beta": 0.2, "steps": None})
    {'m2ib': {'beta': 0.2}, 'nib': {}}
    """
    rows = list(rows)
    wanted = {name: value for name, value in given.items() if value is not None}
    for name in wanted:
        if name != "seed" and not any(name in row.options for row in rows):
            raise ValueError(
                f"{name} means nothing to {', '.join(row.name for row in rows)}: "
                f"methods with that setting: "
                f"{', '.join(row.name for row in METHODS.values() if name in row.options)}"
            )
    return {
        row.name: {
            **row.settings,
            **{row.options[name]: value for name, value in wanted.items() if name in row.options},
        }
        for row in rows
    }
