"""Settings of methods, metrics and data, held against the signatures that will receive them."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from captum_ib import methods
from captum_ib.benchmark.checks import ConfigError, Where, nearest, place, plain, show, table

FLOOR = "random"
"""The method that knows nothing: noise of its own, the floor that every other must beat."""

_LAYERS = ("layer", "layers")
LAYERS = str | Sequence[str | Sequence[str] | None] | None
"""A layer by its dotted name, several, or one or several per tower of a pair."""

# What the run passes itself, or what would change the shape of the answer.
_TAKEN = {
    "seed": "it comes from the run's seeds",
    "target": "it comes from the data's labels",
    "show_progress": "the run has one progress bar of its own",
    "return_trace": "the run stores attributions only",
    "return_attention": "the run stores attributions only",
    "return_convergence_delta": "the run stores attributions only",
    "reduce": "the run needs one value per position",
    "attr_dim_summation": "the run needs one value per position",
}
_UNSAID = ("self", "forward_func", "inputs", "additional_forward_args", "device_ids")


def method_names() -> list[str]:
    """The methods that a run can hold: those of the registry, and the floor."""
    return [*methods.METHODS, FLOOR]


def method_title(name: str) -> str:
    """How a table names a method when nothing else is said."""
    return "Random" if name == FLOOR else methods.get(name).title


def method_settings(name: str, given: Any, where: Where) -> dict[str, Any]:
    """The settings of a method, each known to its constructor or its ``attribute``.

    Args:
        name: of the method.
        given: names and values; ``layer`` or ``layers`` as dotted names.
        where: the way to them, for messages.

    Raises:
        ConfigError: a setting that the method has not or that the run sets itself; another type.
    """
    hints = {} if name == FLOOR else _method_hints(name)
    settings = table(given, where)
    for key in settings:
        if key in _TAKEN:
            problem = f"{key!r} is no setting of {place(where)}: {_TAKEN[key]}"
            raise ConfigError(problem, (*where, key), on_key=True)
    return check(settings, where, hints, name)


def check(given: Any, where: Where, hints: Mapping[str, Any], owner: str) -> dict[str, Any]:
    """Plain settings whose names and types are those of ``hints``.

    >>> check({"steps": 28}, ("settings",), {"steps": int}, "insertion")
    {'steps': 28}
    >>> check({"steps": "x"}, ("settings",), {"steps": int}, "insertion")
    Traceback (most recent call last):
        ...
    captum_ib.benchmark.checks.ConfigError: settings.steps must be a whole number, given 'x' (text)
    """
    settings = table(given, where)
    result: dict[str, Any] = {}
    for key, value in settings.items():
        here = (*where, key)
        if key not in hints:
            problem = f"{owner} has no setting {key!r}; {nearest(key, hints)}"
            raise ConfigError(problem, here, on_key=True)
        result[key] = plain(value, here)
        if not accepts(hints[key], result[key]):
            expected = describe(hints[key])
            raise ConfigError(f"{place(here)} must be {expected}, given {show(value)}", here)
    return result


def _method_hints(name: str) -> dict[str, Any]:
    """Names and types of what a method can be told in a file; layers first."""
    row, hints = methods.get(name), {}
    for key in inspect.signature(row.cls).parameters:
        if key in _LAYERS:  # a module in code, a dotted name in a file
            hints[key] = str if row.layers == "one" else LAYERS
        elif key not in _UNSAID:
            hints[key] = _hints(row.cls.__init__).get(key, Any)
    attribute: Callable[..., Any] = getattr(row.cls, "attribute")  # noqa: B009 - not on `type`
    types_of = _hints(attribute)
    for key in inspect.signature(attribute).parameters:
        hint = types_of.get(key, Any)
        if key not in (*_UNSAID, *_TAKEN) and _sayable(hint):
            anything = hint is Any or Any in get_args(hint)  # Python 3.10 makes Any optional
            hints[key] = float | None if key == "baselines" and anything else hint
    return hints


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's parameters; names that only a type checker sees stand for Any."""
    function, unseen = inspect.unwrap(function), {}
    while True:
        try:
            return get_type_hints(function, localns=unseen)
        except NameError as error:
            if not error.name or error.name in unseen:
                return {}
            unseen[error.name] = Any


def _sayable(hint: Any) -> bool:
    """Whether some value of a file, other than nothing, has this type."""
    if _is_union(hint):
        return any(_sayable(part) for part in get_args(hint) if part is not type(None))
    if hint is Any or hint in (bool, int, float, str) or get_origin(hint) is Literal:
        return True
    return _is_list(hint) and all(_sayable(part) for part in get_args(hint) if part is not ...)


def accepts(hint: Any, value: Any) -> bool:
    """Whether a plain value has a type; a whole number is a number, ``true`` is neither.

    >>> accepts(float | tuple[float, float], (0.1, 1)), accepts(int, True), accepts(int, 1.5)
    (True, False, False)
    """
    if hint is Any:
        return True
    if _is_union(hint):
        return any(accepts(part, value) for part in get_args(hint))
    if get_origin(hint) is Literal:
        return any(value == known and type(value) is type(known) for known in get_args(hint))
    if hint in (None, type(None)):
        return value is None
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    return _is_list(hint) and isinstance(value, tuple) and _all_accepted(hint, value)


def _all_accepted(hint: Any, values: tuple[Any, ...]) -> bool:
    parts = get_args(hint)
    if get_origin(hint) is tuple and parts[-1:] != (...,):
        pairs = zip(parts, values, strict=False)
        return len(parts) == len(values) and all(accepts(part, value) for part, value in pairs)
    return all(accepts(parts[0], value) for value in values) if parts else True


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


def _is_list(hint: Any) -> bool:
    return (get_origin(hint) or hint) in (list, tuple, Sequence)


def describe(hint: Any) -> str:
    """A type in a few words, for messages; what a file can't say is left out.

    >>> describe(float | tuple[float, float] | None)
    'a number, [a number, a number] or nothing'
    """
    if hint == LAYERS:
        return "the name of a layer, or a list of names"
    if _is_union(hint):
        parts = [part for part in get_args(hint) if part is type(None) or _sayable(part)]
        words = list(dict.fromkeys(describe(part) for part in parts))
        return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
    if get_origin(hint) is Literal:
        return " or ".join(repr(known) for known in get_args(hint))
    if hint in (None, type(None)):
        return "nothing"
    if _is_list(hint):
        parts = [describe(part) for part in get_args(hint) if part is not ...]
        if get_origin(hint) is tuple and get_args(hint)[-1:] != (...,):
            return f"[{', '.join(parts)}]"
        return f"a list, each {parts[0]}" if parts else "a list"
    return _IN_WORDS.get(hint, str(hint))


_IN_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Any: "any",
}
