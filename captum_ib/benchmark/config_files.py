"""Files that describe runs, in YAML or TOML, and the presets of the package."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from captum_ib.benchmark.checks import ConfigError, nearest, pydantic, repeated
from captum_ib.benchmark.config import RunConfig, validated
from captum_ib.extras import need

_MOST_BYTES = 2**20
_HOME = Path(__file__).parent / "presets"

# PyYAML follows YAML 1.1, where 1e-3 is a text; this is what YAML 1.2 adds.
_EXPONENT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$")

PRESETS: tuple[str, ...] = tuple(sorted(file.stem for file in _HOME.glob("*.yaml")))
"""Names of the runs that come with the package."""


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid"))
class _Several:
    """What a file says that describes more than one run."""

    runs: Annotated[tuple[RunConfig, ...], pydantic.Field(min_length=1)]

    @pydantic.field_validator("runs")
    @classmethod
    def _titles(cls, runs: tuple[RunConfig, ...]) -> tuple[RunConfig, ...]:
        titles = [run.title for run in runs]
        if "" in titles:
            problem = "lacks 'title': each of several runs needs one"
            raise ConfigError(problem, (titles.index(""),))
        index = repeated(titles)
        if index is not None:
            raise ConfigError(f"is {titles[index]!r}, which is there twice", (index, "title"))
        return runs


def load_config(path: str | os.PathLike[str]) -> list[RunConfig]:
    """The runs that a file describes: one, or several under the key ``runs``.

    Relative paths of data start at the file's folder, and so does a model given as ``./…``.

    Args:
        path: a ``.yaml``, ``.yml`` or ``.toml`` file in UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: what it says is wrong; the message starts with the file's name.
        MissingExtraError: the package that reads the format is not installed.

    >>> [run.title for run in load_config(_HOME / "paper-small.yaml")]
    ['vit-scenes', 'clip-scenes']
    """
    file = Path(path)
    if not file.is_file():
        near = f"; or a preset: {', '.join(PRESETS)}" if not file.exists() else ", but a folder"
        raise FileNotFoundError(f"{file} is no file{near}")
    if file.suffix.lower() not in _READERS:
        raise ConfigError(f"{file} must end in one of {', '.join(_READERS)}")
    if file.stat().st_size > _MOST_BYTES:
        size = file.stat().st_size / 2**20
        raise ConfigError(f"{file} has {size:.0f} MiB: that is no description of a run")
    try:
        runs = _runs(_READERS[file.suffix.lower()](file.read_bytes().decode("utf-8-sig")))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8, from byte {error.start} on") from None
    except RecursionError:
        raise ConfigError(f"{file}: values are nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{file}: {error}") from None
    return [_anchored(run, file.parent) for run in runs]


def preset_title(name: str) -> str:
    """What a preset is, in one line: the first comment of its file.

    >>> preset_title("paper-small")[:27]
    "The papers' tables in small"
    """
    with (_HOME / f"{name}.yaml").open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").rstrip(" :.\n")


def preset(name: str) -> list[RunConfig]:
    """The runs of a preset.

    Raises:
        ValueError: there is no such preset.

    >>> len(preset("paper-small"))
    2
    """
    if name not in PRESETS:
        raise ValueError(f"unknown preset {name!r}; {nearest(name, PRESETS)}")
    return load_config(_HOME / f"{name}.yaml")


def _runs(values: Any) -> tuple[RunConfig, ...]:
    if isinstance(values, Mapping) and "runs" in values:
        return validated(_Several, values).runs
    return (RunConfig.from_dict(values),)


def read_yaml(text: str) -> Any:
    """Plain values of one YAML document: no tag that would build an object is known.

    Raises:
        ValueError: it is none; a key that is there twice; aliases that stand for too much.
        MissingExtraError: PyYAML is not installed.

    >>> read_yaml("a: 1e-3")
    {'a': 0.001}
    """
    yaml = need("yaml", "reading YAML")

    class Loader(yaml.SafeLoader):
        def get_single_node(self) -> Any:
            node = super().get_single_node()
            if node is None:
                raise ConfigError("the file says nothing")
            _weigh(node, {})
            return node

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))
    try:
        return yaml.load(text, Loader)
    except yaml.MarkedYAMLError as error:
        told = ", ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        raise ConfigError(f"{told} (line {mark.line + 1})" if mark else told) from None
    except yaml.YAMLError as error:  # a sign that YAML does not allow
        raise ConfigError(str(error).splitlines()[0]) from None


def _weigh(node: Any, known: dict[int, int]) -> int:
    """How many values and characters a node stands for, aliases written out.

    Raises:
        ConfigError: more than a file may have; an alias within itself; a key that is there twice.
    """
    line = f"(line {node.start_mark.line + 1})"
    if id(node) in known:
        if not known[id(node)]:
            raise ConfigError(f"an alias stands for something that it is part of {line}")
        return known[id(node)]
    known[id(node)], parts = 0, list(node.value) if node.id == "sequence" else []
    if node.id == "mapping":
        keys = [key for key, _ in node.value if key.id == "scalar"]
        index = repeated(key.value for key in keys)
        if index is not None:
            key, line = keys[index].value, keys[index].start_mark.line + 1
            raise ConfigError(f"key {key!r} is there twice (line {line})")
        parts = [part for pair in node.value for part in pair]
    weight = 1 + sum(_weigh(part, known) for part in parts)
    weight += len(node.value) if node.id == "scalar" else 0
    if weight > _MOST_BYTES:
        raise ConfigError(f"aliases written out, it has more than {_MOST_BYTES} values {line}")
    known[id(node)] = weight
    return weight


def _toml(text: str) -> Any:
    toml = need("tomllib" if sys.version_info >= (3, 11) else "tomli", "reading TOML")
    return toml.loads(text)


_READERS = {".yaml": read_yaml, ".yml": read_yaml, ".toml": _toml}


def _anchored(run: RunConfig, folder: Path) -> RunConfig:
    """The run with its relative paths starting at a folder."""

    def absolute(path: str) -> str:
        return os.path.abspath(folder / Path(path).expanduser())

    data, options = run.data, dict(run.data.options)
    paths = ("annotations", "root", "list")
    options |= {key: absolute(options[key]) for key in paths if options.get(key)}
    path = None if data.path is None else absolute(data.path)
    model = absolute(run.model) if run.model.startswith(("./", "../", "~")) else run.model
    return replace(run, model=model, data=replace(data, path=path, options=options))
