"""Plain values (what YAML, TOML and JSON hold) and, where one is wrong, a sentence that says so."""

from __future__ import annotations

import difflib
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from captum_ib.extras import need

if TYPE_CHECKING:
    import pydantic
    import pydantic.dataclasses
else:
    pydantic = need("pydantic", "describing a run")

Where = tuple[str | int, ...]
"""The way to a value from the top, e.g. ``("methods", 0, "label")``."""

_UNKNOWN_KEY = "unexpected_keyword_argument"


class ConfigError(ValueError):
    """A run is described wrongly.

    Args:
        problem: what is wrong: a sentence without its subject, which ``where`` is.
        where: the way to the wrong value; ``None``: ``problem`` is a sentence of its own.
    """

    def __init__(self, problem: str, where: Where | None = None) -> None:
        super().__init__(problem if where is None else f"{place(where)} {problem}")
        self.problem, self.where = problem, where


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


def one_of(value: str, known: Iterable[str]) -> str:
    """The value, if it is one of some names.

    Raises:
        ConfigError: it is not.
    """
    names = list(known)
    if value not in names:
        raise ConfigError(_not_one_of(value, names), ())
    return value


def _not_one_of(value: str, names: Iterable[str]) -> str:
    return f"is {value!r}, which is none of its values; {nearest(value, names)}"


def repeated(values: Iterable[Any]) -> int | None:
    """Where the first value stands that was there before.

    >>> repeated("abca"), repeated([])
    (3, None)
    """
    seen = set()
    for index, value in enumerate(values):
        if value in seen:
            return index
        seen.add(value)
    return None


def plain(value: Any, where: Where = ()) -> Any:
    """The value with lists as tuples, if it can be written as JSON and read back the same.

    Raises:
        ConfigError: NaN, infinity, a date, a key that is no text, or anything else that JSON lacks.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(plain(entry, (*where, index)) for index, entry in enumerate(value))
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise ConfigError(f"has a key that is no text: {reprlib.repr(key)}", where)
        return {key: plain(entry, (*where, key)) for key, entry in value.items()}
    expected = "a finite number, text, true, false, null, a list or a table"
    raise ConfigError(f"should be {expected}, given {reprlib.repr(value)}", where)


def told(error: pydantic.ValidationError, keys: Callable[[Where], Iterable[str]]) -> ConfigError:
    """The gravest of what pydantic found, as a sentence: an unknown key, else the first.

    Args:
        error: of plain values that are no run.
        keys: those that are known at a place.
    """
    mistakes = error.errors(include_url=False)
    mistake = min(mistakes, key=lambda entry: entry["type"] != _UNKNOWN_KEY)
    where, given, facts = mistake["loc"], mistake["input"], mistake.get("ctx", {})
    if mistake["type"] == _UNKNOWN_KEY:
        key, home = str(where[-1]), where[:-1]
        return ConfigError(f"has no key {key!r}; {nearest(key, keys(home))}", home)
    if mistake["type"] == "missing":
        return ConfigError(f"lacks {where[-1]!r}", where[:-1])
    inner = facts.get("error")
    if isinstance(inner, ConfigError):  # of a validator of ours, which knows the way from there
        return ConfigError(inner.problem, (*where, *(inner.where or ())))
    if mistake["type"] == "literal_error" and isinstance(given, str):
        problem = _not_one_of(given, re.findall("'(.*?)'", facts["expected"]))
        return ConfigError(problem, where)
    should = re.sub(r"^.*?(?=should )", "", mistake["msg"])  # "Input should be a valid integer"
    return ConfigError(f"{should}, given {reprlib.repr(given)}", where)
