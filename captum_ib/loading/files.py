"""Read the files of a model's folder as data: regular files of the folder itself, JSON objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from captum_ib.loading.loaded import FolderError, ModelUnavailableError

MAX_BYTES = 2**23
"""Largest configuration that is read, in bytes; the largest of real ones hold about one million."""


def inside(folder: Path, name: object, part: str = "") -> Path:
    """A file of a folder by its bare name; links may not lead out of the folder.

    The folders in the hub's cache hold links to ``blobs/`` beside them: those may.

    Args:
        folder: the model's.
        name: of the file.
        part: bare name of a folder in it that holds the file.

    Raises:
        FolderError: ``name`` is a path, leads out of the folder, or is no regular file.
    """
    if not isinstance(name, str) or not name or name != Path(name).name or "\\" in name:
        raise FolderError(f"{folder}: {name!r} must be the bare name of a file in this folder")
    try:
        home, file = folder.resolve(), (folder / part / name).resolve()
    except (RuntimeError, OSError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise FolderError(f"{folder / name} is a link that leads nowhere") from error
    homes = [home]
    if home.parent.name == "snapshots":
        homes.append(home.parents[1] / "blobs")
    if not any(file.is_relative_to(place) for place in homes):
        raise FolderError(f"{folder / name} leads out of its folder; put the file itself there")
    if not file.is_file():
        raise FolderError(f"{folder / name} is missing or no regular file")
    return file


def has(folder: Path, name: str) -> bool:
    """Whether a folder holds something by this name, be it a file or a broken link."""
    return (folder / name).exists() or (folder / name).is_symlink()


def read_json(folder: Path, name: str, part: str = "") -> dict[str, Any]:
    """The JSON object in a file of a folder, or of a folder in it.

    Raises:
        FolderError: the file is missing, too large, not UTF-8, not JSON (``NaN`` is not), nested
            too deep, or holds anything but an object.
    """
    found, shown = _read(folder, name, part), folder / part / name
    if not isinstance(found, dict):
        raise FolderError(
            f"{shown} must hold a JSON object ({{…}}), but holds {type(found).__name__}"
        )
    return found


def read_list(folder: Path, name: str) -> list[Any]:
    """The JSON list in a file of a folder; errors as in :func:`read_json`."""
    found = _read(folder, name)
    if not isinstance(found, list):
        raise FolderError(
            f"{folder / name} must hold a JSON list ([…]), but holds {type(found).__name__}"
        )
    return found


def read_text(folder: Path, name: str) -> str:
    """The text in a file of a folder.

    Raises:
        FolderError: the file is missing, too large, or not UTF-8.
    """
    file = inside(folder, name)
    if file.stat().st_size > MAX_BYTES:
        raise FolderError(f"{folder / name} has more than {MAX_BYTES} bytes, too many for a text")
    try:
        return file.read_text(encoding="utf-8")
    except ValueError as error:
        raise FolderError(f"{folder / name} is not UTF-8: {one_line(error)}") from error


def _read(folder: Path, name: str, part: str = "") -> Any:
    """What the JSON in a file says."""
    file, shown = inside(folder, name, part), folder / part / name
    if file.stat().st_size > MAX_BYTES:
        raise FolderError(f"{shown} has more than {MAX_BYTES} bytes, too many for a configuration")
    try:
        return json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
    except RecursionError as error:
        raise FolderError(f"{shown} is nested too deep for a configuration") from error
    except ValueError as error:
        raise FolderError(f"{shown} is not valid JSON: {one_line(error)}") from error


@contextmanager
def refusing(what: object) -> Iterator[None]:
    """Turn whatever a library raises at a folder's content into one line.

    Raises:
        FolderError: anything was raised inside; errors that speak for themselves pass.
    """
    try:
        yield
    except (FolderError, ModelUnavailableError):
        raise
    # What a library raises at a hostile file has no common class below Exception: safetensors,
    # strict dataclasses, the tokenizers' Rust and arithmetic each have their own.
    except Exception as error:
        raise FolderError(f"{what}: {type(error).__name__}: {one_line(error)}") from error


def one_line(error: BaseException) -> str:
    """The first line of an error's message, at most 300 characters of it."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= 300 else line[:299] + "…"


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number in JSON")
