"""YAML as plain values together with the line of every one of them."""

from __future__ import annotations

import re
from typing import Any

from captum_ib.benchmark.checks import Where
from captum_ib.benchmark.marks import FormatError, Marked
from captum_ib.extras import need

_MOST_VALUES = 100_000  # aliases of aliases can say billions in a few lines

# PyYAML follows YAML 1.1, where 1e-3 is a text; this is what YAML 1.2 adds.
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")


def read(text: str) -> Marked:
    """Read one YAML document: plain values only, no tag that would build an object.

    Args:
        text: the document.

    Raises:
        FormatError: no YAML, a key that is there twice, an alias within itself, too many values.
        MissingExtraError: PyYAML is not installed.

    >>> read("a: 1e-3\\nb: [x,\\n  y]").line(("b", 1))
    3
    """
    yaml = need("yaml", "reading YAML")
    try:
        loader = _loader(yaml)(text)
        root = loader.get_single_node()
        if root is None:
            raise FormatError("the file says nothing")
        _measure(yaml, root, {})
        values = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        told = [part for part in (error.context, error.problem) if part]
        raise FormatError(", ".join(told), None if mark is None else mark.line + 1) from None
    except yaml.YAMLError as error:  # a sign that YAML does not allow
        raise FormatError(str(error).splitlines()[0]) from None
    except RecursionError:
        raise FormatError("values are nested too deeply") from None
    except FormatError:
        raise
    except ValueError as error:  # the 99th of February, and the like
        raise FormatError(f"a value can't be read: {error}") from None
    return Marked(values, lambda where: _line(yaml, root, where))


def _loader(yaml: Any) -> type:
    loader = type("PlainLoader", (yaml.SafeLoader,), {})
    loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
    return loader


def _measure(yaml: Any, node: Any, known: dict[int, int]) -> int:
    """How many values a node stands for, aliases written out.

    Raises:
        FormatError: more than can be meant; an alias within itself; a key that is there twice.
    """
    line = node.start_mark.line + 1
    if id(node) in known:
        if known[id(node)] == 0:
            raise FormatError("an alias stands for something that it is part of", line)
        return known[id(node)]
    known[id(node)] = 0
    count = 1
    if isinstance(node, yaml.MappingNode):
        seen: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                _once(seen, key)
            count += _measure(yaml, key, known) + _measure(yaml, value, known)
    elif isinstance(node, yaml.SequenceNode):
        count += sum(_measure(yaml, entry, known) for entry in node.value)
    if count > _MOST_VALUES:
        raise FormatError(f"more than {_MOST_VALUES} values, aliases written out", line)
    known[id(node)] = count
    return count


def _once(seen: dict[tuple[str, str], int], key: Any) -> None:
    name, line = (key.tag, key.value), key.start_mark.line + 1
    if name in seen:
        raise FormatError(f"key {key.value!r} is there twice, first on line {seen[name]}", line)
    seen[name] = line


def _line(yaml: Any, node: Any, where: Where) -> int | None:
    """The line of the key or list entry at the end of a way; ``None`` where it leads nowhere."""
    line = node.start_mark.line + 1
    for step in where:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(step)]
            if not found:
                return None
            line, node = found[0][0].start_mark.line + 1, found[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int):
            if step >= len(node.value):
                return None
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return None
    return line
