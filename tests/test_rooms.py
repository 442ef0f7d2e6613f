"""The plan of the house: which room may import which, read from all imports of the package.

An import counts wherever it stands: at the top, in a function, for type checkers only, or as the
name of a module in a string.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import captum_ib

ROOT = Path(captum_ib.__file__).parent

FLOORS = (
    "cli",
    "app report studies",
    "benchmark",
    "curve explaining",
    "loading metrics methods presets",
    "attr baselines",
    "forward",
    "models",
    "bottleneck hooks",
    "layout",
    "visualization zoo",
    "axis checks collapse evidence extras facts lazy rgb segments",
)
"""The rooms from the roof to the ground: a room imports from the floors below it only.

The front door, ``captum_ib/__init__.py``, offers names of all rooms; no room comes in through it.
"""

LAZY = {"lazy", "extras", "methods"}
"""Modules that import by a name that they were given."""

IMPORTS = ("import_module", "__import__")

_FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms.split()}
_MODULE = re.compile(r"(captum_ib(?:\.\w+)+)(?::\w+)?")


@dataclass(frozen=True)
class Import:
    """``module`` (dotted, without ``captum_ib.``) imports ``target``, and ``name`` from it."""

    module: str
    target: str
    name: str
    line: int

    @property
    def rooms(self) -> tuple[str, str]:
        """The room that imports, and the one that is imported."""
        return self.module.partition(".")[0], self.target.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.module}:{self.line} imports {self.target}.{self.name}".rstrip(".")


def dotted(path: Path) -> str:
    """``bottleneck.fit`` for ``captum_ib/bottleneck/fit.py``, ``bottleneck`` for its front door."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources() -> dict[str, ast.Module]:
    """The package's modules, parsed, without the front door."""
    files = (path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py")
    return {dotted(path): ast.parse(path.read_text(encoding="utf-8")) for path in files}


def imports_of(module: str, tree: ast.Module, modules: set[str]) -> Iterator[Import]:
    """The imports of the package's own modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno} is a relative import"
            for alias in node.names:
                yield from _resolved(module, f"{node.module}.{alias.name}", node.lineno, modules)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield from _resolved(module, alias.name, node.lineno, modules)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found = _MODULE.fullmatch(node.value)
            if found and found[1].partition(".")[2] in modules:
                yield from _resolved(module, found[1], node.lineno, modules)


def _resolved(module: str, full: str, line: int, modules: set[str]) -> Iterator[Import]:
    package, _, target = full.partition(".")
    if package != "captum_ib":
        return
    if target in modules:
        yield Import(module, target, "", line)
        return
    target, _, name = target.rpartition(".")
    yield Import(module, target, name, line)


@cache
def all_imports() -> list[Import]:
    modules = set(sources())
    found = [one for module, tree in sources().items() for one in imports_of(module, tree, modules)]
    return [one for one in found if one.module != one.target]


def test_every_room_has_its_floor():
    assert {module.partition(".")[0] for module in sources()} == set(_FLOOR)


def test_arrows_go_downwards():
    across = [one for one in all_imports() if one.rooms[0] != one.rooms[1]]
    door = [str(one) for one in across if not one.target and one.name != "__version__"]
    assert door == [], "imports through the front door hide which room they mean"
    up = [str(one) for one in across if one.target and _FLOOR[one.rooms[1]] <= _FLOOR[one.rooms[0]]]
    assert up == []


def test_nobody_imports_what_is_anothers_own():
    """A leading underscore is for the room, or a module's name for its file."""
    hidden = [
        str(one)
        for one in all_imports()
        if one.rooms[0] != one.rooms[1]
        and one.name != "__version__"
        and any(part.startswith("_") for part in (*one.target.split("."), one.name))
    ]
    assert hidden == []


def for_checkers(tree: ast.Module) -> set[int]:
    """Lines that only type checkers read."""
    return {
        line
        for node in tree.body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in range(node.lineno, node.body[-1].end_lineno + 1)
    }


def test_no_circles_between_modules():
    """Of imports that run. Within a room, two modules may name each other's types."""
    unread = {module: for_checkers(tree) for module, tree in sources().items()}
    graph = {module: set() for module in sources()}
    for one in all_imports():
        if one.target and one.line not in unread[one.module]:
            graph[one.module].add(one.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" → ".join(error.args[1]))


def test_no_import_by_a_name_that_is_put_together():
    """Such an import could lead anywhere, and none of the tests here would see it."""
    found = set()
    for module, tree in sources().items():
        own = f"captum_ib.{module.partition('.')[0]}."
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or not ast.unparse(node.func).endswith(IMPORTS):
                continue
            within = isinstance(node.args[0], ast.JoinedStr) and (
                isinstance(first := node.args[0].values[0], ast.Constant)
                and first.value.startswith(own)
            )
            if not within and not isinstance(node.args[0], ast.Constant):
                found.add(module)
    assert found == LAZY


def test_methods_do_not_ask_whether_they_explain_a_pair():
    """``forward.pair`` makes two calls of it; above, both kinds of call are alike."""
    asked = [
        f"{module}:{node.lineno}"
        for module, tree in sources().items()
        if module.partition(".")[0] in ("attr", "baselines")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "isinstance"
        and "DualEncoder" in ast.unparse(node.args[1])
    ]
    assert asked == []


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("from captum_ib.attr import CoIBA", "attr"),
        ("from captum_ib import attr", "attr"),
        ("import captum_ib.attr.coiba", "attr.coiba"),
        ("from captum_ib.attr.coiba import CoIBA", "attr.coiba"),
        ("def f():\n    return import_module('captum_ib.attr.coiba')", "attr.coiba"),
        ("x = 'captum_ib.attr.coiba:CoIBA'", "attr.coiba"),
    ],
)
def test_imports_are_seen_in_every_form(source, target):
    found = list(imports_of("models.toy", ast.parse(source), set(sources())))
    assert [one.target for one in found] == [target]
    assert _FLOOR["attr"] < _FLOOR["models"]  # so each of these would be an arrow upwards
