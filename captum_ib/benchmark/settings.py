"""Settings of methods, metrics and data, held against the signatures that will receive them."""

from __future__ import annotations

import inspect
import reprlib
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from captum_ib import methods
from captum_ib.benchmark.checks import ConfigError, nearest, pydantic

FLOOR = "random"
"""The method that knows nothing: noise of its own, the floor that every other must beat."""

TITLES = {**{row.name: row.title for row in methods.METHODS.values()}, FLOOR: "Random"}
"""The methods that a run can hold, and how a table names them when nothing else is said."""

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
# Strict: "1" is no number, 1.5 not whole. Arbitrary: a Tensor is a type that no file can say.
_STRICT = pydantic.ConfigDict(strict=True, arbitrary_types_allowed=True)


def check(settings: Mapping[str, Any], hints: Mapping[str, Any], owner: str, key: str) -> None:
    """Check that settings have the names and types of ``hints``.

    Args:
        settings: names and values, lists as tuples.
        hints: names and types.
        owner: whose settings they are, for messages.
        key: under which they stand.

    Raises:
        ConfigError: an unknown name, a name that the run sets itself, or another type.

    >>> check({"steps": 28}, {"steps": int}, "insertion", "settings")
    >>> check({"steps": "x"}, {"steps": int}, "insertion", "settings")
    Traceback (most recent call last):
        ...
    captum_ib.benchmark.checks.ConfigError: settings.steps should be int, given 'x'
    """
    for name, value in settings.items():
        if name not in hints:
            why = _TAKEN.get(name) if owner in methods.METHODS else None
            why = f"here: {why}" if why else f"of {owner}; {nearest(name, hints)}"
            raise ConfigError(f"has {name!r}, which is no setting {why}", (key,))
        try:
            pydantic.TypeAdapter(hints[name], config=_STRICT).validate_python(value)
        except pydantic.ValidationError:
            expected = inspect.formatannotation(hints[name]).replace("collections.abc.", "")
            problem = f"should be {expected}, given {reprlib.repr(value)}"
            raise ConfigError(problem, (key, name)) from None


def method_hints(name: str) -> dict[str, Any]:
    """Names and types of what a method can be told in a file; layers first."""
    if name == FLOOR:
        return {}
    row, hints = methods.get(name), {}
    for key in inspect.signature(row.cls).parameters:
        if key in ("layer", "layers"):  # a module in code, a dotted name in a file
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
    parts = [part for part in get_args(hint) if part not in (type(None), ...)]
    if get_origin(hint) in (Union, types.UnionType):
        return any(_sayable(part) for part in parts)
    if (get_origin(hint) or hint) in (list, tuple, Sequence):
        return all(_sayable(part) for part in parts)
    return hint in (Any, bool, int, float, str) or get_origin(hint) is Literal
