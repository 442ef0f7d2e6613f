"""Files that describe runs, in YAML or TOML; what is wrong in them is named with its line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from captum_ib.benchmark.checks import ConfigError, Where, items, nearest, table
from captum_ib.benchmark.config import RunConfig
from captum_ib.benchmark.marks import FormatError, Marked

_FORMATS = {".yaml": "yaml_marks", ".yml": "yaml_marks", ".toml": "toml_marks"}
_MOST_BYTES = 2**20
_HOME = Path(__file__).parent / "presets"

PRESETS: tuple[str, ...] = tuple(sorted(file.stem for file in _HOME.glob("*.yaml")))
"""Names of the runs that come with the package."""


def load_config(path: str | os.PathLike[str]) -> list[RunConfig]:
    """The runs that a file describes: one, or several under the key ``runs``.

    Relative paths of data start at the file's folder, and so does a model given as ``./…``.

    Args:
        path: a ``.yaml``, ``.yml`` or ``.toml`` file in UTF-8.

    Raises:
        FileNotFoundError: there is no such file.
        ConfigError: what it says is wrong; the message starts with ``FILE:LINE:``.
        MissingExtraError: the package that reads the format is not installed.

    >>> [run.title for run in load_config(_HOME / "paper-small.yaml")]
    ['vit-scenes', 'clip-scenes']
    """
    file = Path(path)
    if not file.is_file():
        near = f"; or a preset: {', '.join(PRESETS)}" if not file.exists() else ", but a folder"
        raise FileNotFoundError(f"{file} is no file{near}")
    reader = _FORMATS.get(file.suffix.lower())
    if reader is None:
        raise ConfigError(f"{file} must end in one of {', '.join(_FORMATS)}")
    marked = _parse(file, reader)
    try:
        runs = _runs(marked.values)
    except ConfigError as error:
        line = marked.line(error.where)
        told = f"{file}:{line}: {error.problem}"
        raise ConfigError(told, error.where, on_key=error.on_key) from None
    return [_anchor(run, file.parent) for run in runs]


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


def _parse(file: Path, reader: str) -> Marked:
    if file.stat().st_size > _MOST_BYTES:
        size = file.stat().st_size / 2**20
        raise ConfigError(f"{file} has {size:.0f} MiB: that is no description of a run")
    content = file.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}:{line}: the file is not UTF-8") from None
    try:
        return import_module(f"captum_ib.benchmark.{reader}").read(text)
    except FormatError as error:
        at = "" if error.line is None else f":{error.line}"
        raise ConfigError(f"{file}{at}: {error.problem}") from None


def _runs(values: Any) -> list[RunConfig]:
    if not isinstance(values, Mapping) or "runs" not in values:
        return [RunConfig.from_dict(values)]
    entries = items(table(values, (), ("runs",))["runs"], ("runs",))
    runs: list[RunConfig] = []
    for index, entry in enumerate(entries):
        where: Where = ("runs", index)
        run = RunConfig.from_dict(entry, where)
        if not run.title:
            raise ConfigError(f"runs[{index}] lacks 'title': each of several runs needs one", where)
        if run.title in [earlier.title for earlier in runs]:
            problem = f"runs[{index}].title is {run.title!r}, which is there twice"
            raise ConfigError(problem, (*where, "title"))
        runs.append(run)
    return runs


def _anchor(run: RunConfig, folder: Path) -> RunConfig:
    """The run with its relative paths starting at a folder."""

    def anchored(path: str) -> str:
        return os.path.abspath(folder / Path(path).expanduser())

    data = run.data
    named = {key: anchored(data.options[key]) for key in _PATHS if data.options.get(key)}
    path = None if data.path is None else anchored(data.path)
    model = anchored(run.model) if run.model.startswith(("./", "../", "~")) else run.model
    return replace(
        run, model=model, data=replace(data, path=path, options={**data.options, **named})
    )


_PATHS = ("annotations", "root")
