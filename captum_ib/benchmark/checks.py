"""Read plain values (what YAML, TOML and JSON hold) and say where the first wrong one stands."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Where = tuple[str | int, ...]
"""The way to a value from the top, e.g. ``("methods", 0, "label")``."""


class ConfigError(ValueError):
    """A run is described wrongly.

    Attributes:
        problem: what is wrong, in words, without the file.
        where: the way to the value, or to the key, that is wrong.
        on_key: whether the key itself is wrong, not its value.
    """

    def __init__(self, problem: str, where: Where = (), *, on_key: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.where, self.on_key = problem, where, on_key


def place(where: Where) -> str:
    """The way to a value in words.

    >>> place(("runs", 1, "methods", 0, "label"))
    'runs[1].methods[0].label'
    """
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)
    return text.lstrip(".") or "the run"


def nearest(given: str, known: Iterable[str]) -> str:
    """A question with the nearest name, or all names when none is near.

    >>> nearest("metod", ["method", "label"])
    "did you mean 'method'?"
    >>> nearest("x", ["method", "label"])
    'known: method, label'
    """
    names = list(known)
    near = difflib.get_close_matches(given.lower(), names, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known: {', '.join(names)}" if names else "there are none"


def show(value: Any) -> str:
    """A value and its type, short enough for a message.

    >>> show("abc"), show(None), show([1, 2])
    ("'abc' (text)", 'nothing', '[1, 2] (a list)')
    """
    if value is None:
        return "nothing"
    kinds = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    kind = kinds.get(type(value), type(value).__name__)
    if isinstance(value, (list, tuple)):
        kind, value = "a list", list(value)
    elif isinstance(value, Mapping):
        kind, value = "a table", dict(value)
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({kind})"


def wrong(expected: str, value: Any, where: Where) -> ConfigError:
    """The error for a value that is not what was expected."""
    return ConfigError(f"{place(where)} must be {expected}, given {show(value)}", where)


def table(value: Any, where: Where, known: Iterable[str] | None = None) -> dict[str, Any]:
    """A mapping with text keys, all of them known.

    Raises:
        ConfigError: no mapping, a key that is no text, or an unknown key; it names the nearest.
    """
    if not isinstance(value, Mapping):
        raise wrong("a table of keys and values", value, where)
    names = None if known is None else list(known)
    for key in value:
        if not isinstance(key, str):
            problem = f"the keys of {place(where)} must be text, given {show(key)}"
            raise ConfigError(problem, (*where, key), on_key=True)
        if names is not None and key not in names:
            problem = f"unknown key {key!r} in {place(where)}; {nearest(key, names)}"
            raise ConfigError(problem, (*where, key), on_key=True)
    return dict(value)


def items(value: Any, where: Where) -> Sequence[Any]:
    """A list that is not empty."""
    if not isinstance(value, (list, tuple)):
        raise wrong("a list", value, where)
    if not value:
        raise ConfigError(f"{place(where)} is empty: at least one entry is needed", where)
    return value


def text(value: Any, where: Where) -> str:
    """A text that says something."""
    if not isinstance(value, str):
        raise wrong("text", value, where)
    if not value.strip():
        raise ConfigError(f"{place(where)} is empty", where)
    return value


def whole(value: Any, where: Where, least: int, most: int | None = None) -> int:
    """A whole number within limits; ``true`` is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong("a whole number", value, where)
    if value < least or (most is not None and value > most):
        limit = f"at least {least}" if value < least else f"at most {most}"
        raise ConfigError(f"{place(where)} must be {limit}, given {value}", where)
    return value


def one_of(value: Any, where: Where, known: Iterable[str]) -> str:
    """One of some names."""
    names = list(known)
    if not isinstance(value, str):
        raise wrong(f"one of {', '.join(names)}", value, where)
    if value not in names:
        problem = f"{place(where)} is {value!r}, which is none of its values"
        raise ConfigError(f"{problem}; {nearest(value, names)}", where)
    return value


def plain(value: Any, where: Where) -> Any:
    """The value with lists as tuples, if it can be written as JSON and read back the same.

    Raises:
        ConfigError: NaN, infinity, a date, or anything else that JSON lacks.
    """
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{place(where)} must be a finite number, given {value}", where)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(plain(entry, (*where, index)) for index, entry in enumerate(value))
    if isinstance(value, Mapping):
        inner = table(value, where)
        return {key: plain(entry, (*where, key)) for key, entry in inner.items()}
    raise wrong("a number, text, true, false, nothing, a list or a table", value, where)


def unfreeze(value: Any) -> Any:
    """The value with tuples as lists again, as JSON, YAML and TOML write them."""
    if isinstance(value, Mapping):
        return {key: unfreeze(entry) for key, entry in value.items()}
    return [unfreeze(entry) for entry in value] if isinstance(value, (list, tuple)) else value
