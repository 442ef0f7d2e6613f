"""Rules for values in a model's configuration: plain data of a sane size, no text that could name
a path, an address or code."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from captum_ib.loading.loaded import FolderError

MAX_NUMBER = 1_000_000
"""Largest number; vocabularies, the largest there are, have about 260,000 words."""
MAX_SIDE = 2048
"""Largest side of an image, in pixels; preparing one takes less than a gigabyte."""

Rule = Callable[[Any], bool]


def flag(value: Any) -> bool:
    """True or false."""
    return isinstance(value, bool)


def number(value: Any) -> bool:
    """A finite number of at most one million, or true or false."""
    if not isinstance(value, (int, float)):
        return False
    return math.isfinite(value) and abs(value) <= MAX_NUMBER


def whole(low: int, high: int) -> Rule:
    """A whole number between two bounds."""

    def rule(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high

    return rule


def between(low: float, high: float) -> Rule:
    """A number between two bounds."""

    def rule(value: Any) -> bool:
        return number(value) and not isinstance(value, bool) and low <= value <= high

    return rule


def above_zero(most: float) -> Rule:
    """A number above 0, which may be larger than :data:`MAX_NUMBER`: the base of an angle."""

    def rule(value: Any) -> bool:
        plain = isinstance(value, (int, float)) and not isinstance(value, bool)
        return plain and 0 < value <= most

    return rule


def one_of(*words: str) -> Rule:
    """A word from a list."""

    def rule(value: Any) -> bool:
        return isinstance(value, str) and value in words

    return rule


def listed(rule: Rule, longest: int = 1000) -> Rule:
    """A list of such values, not nested, or a single one."""

    def listed_rule(value: Any) -> bool:
        if isinstance(value, list):
            return len(value) <= longest and all(map(rule, value))
        return rule(value)

    return listed_rule


def mapped(rule: Rule, *keys: str) -> Rule:
    """A dictionary with such values; with ``keys`` given, with no others."""

    def mapped_rule(value: Any) -> bool:
        return isinstance(value, dict) and all(
            isinstance(key, str) and (not keys or key in keys) and rule(entry)
            for key, entry in value.items()
        )

    return mapped_rule


def either(*rules: Rule) -> Rule:
    """A value that one of the rules admits."""
    return lambda value: any(rule(value) for rule in rules)


def text(value: Any) -> bool:
    """Text to show, as the name of a class; never a name to look up."""
    return isinstance(value, str) and len(value) <= 10_000


crop_share = between(0.5, 2)
"""How much of a picture is left when it is cropped: it is first made larger by the inverse, and
with it the memory that preparing it takes. Real ones are 0.8 and more."""
side = whole(1, MAX_SIDE)
"""A side of an image, in pixels."""
sides = listed(side, longest=3)
"""One side, or those of an image."""


def admitted(values: object, rules: Mapping[str, Rule], where: str, strict: bool) -> dict[str, Any]:
    """The entries of ``values`` that rules name, each seen to keep its rule; ``null`` always may.

    Args:
        values: an object of a configuration.
        rules: name → rule.
        where: what to call the object in errors.
        strict: refuse other entries; otherwise leave them out.

    Raises:
        FolderError: ``values`` is no object, or an entry breaks its rule.
    """
    if not isinstance(values, dict):
        raise FolderError(f"{where} must be a JSON object, given {short(values)}")
    for key, value in values.items():
        if key not in rules:
            if strict:
                raise FolderError(
                    f"{where}: {short(key)} is none of the entries that a folder may set "
                    f"({', '.join(sorted(rules))})"
                )
        elif value is not None and not rules[key](value):
            raise FolderError(f"{where}: {key} can't be {short(value)}")
    return {key: value for key, value in values.items() if key in rules}


def short(value: object) -> str:
    """A value as errors show it: on one line, and not at any length."""
    if isinstance(value, int) and abs(value) > 10**15:
        return "a number of more than 15 digits"
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:79] + "…"
