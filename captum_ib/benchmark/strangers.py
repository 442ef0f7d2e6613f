"""What lies in a run's folder, as a stranger may have left it: files, and JSON of sane depth."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DEPTH = 32
"""How deep JSON in a folder may be nested; that of a run has about eight levels."""


def strange(folder: Path) -> Iterator[tuple[Path, str]]:
    """What a run did not leave in its folder, and what it is: links, pipes, folders among files.

    A link is a path: what it leads to would be read, written to, or tidied. Reading a pipe waits
    for ever.
    """
    files = [folder / name for name in ("lock", "run.json", "results.parquet", "samples.parquet")]
    files += [*sorted(folder.glob("*.broken")), *sorted(folder.glob(".tmp-*"))]
    for home in (folder / name for name in ("parts", "samples", "whole")):
        if home.is_symlink():
            yield home, "a link"
            continue
        for pattern in ("*.parquet", "*.parquet.broken", ".tmp-*"):
            files += sorted(home.glob(pattern))
    for file in files:
        try:
            mode = os.lstat(file).st_mode
        except (FileNotFoundError, NotADirectoryError):  # none, or gone meanwhile
            continue
        if stat.S_ISLNK(mode):
            yield file, "a link"
        elif not stat.S_ISREG(mode):
            yield file, "a folder" if stat.S_ISDIR(mode) else "no regular file"


def read_plain_json(text: str | bytes) -> Any:
    """Values from JSON that is not nested absurdly, so that they can be compared and shown.

    Raises:
        ValueError: it is no JSON, or nested deeper than :data:`DEPTH`.

    >>> read_plain_json('{"seeds": [0]}')
    {'seeds': [0]}
    """
    problem = f"it is nested deeper than {DEPTH} levels"
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError(problem) from None
    level = [found]
    for _ in range(DEPTH):
        level = [
            inner
            for value in level
            if isinstance(value, (dict, list))
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError(problem)
    return found
