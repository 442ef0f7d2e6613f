"""Write results so that a folder holds all of them or none."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any


@contextmanager
def staged(out: Path) -> Iterator[Path]:
    """A scratch folder whose files move to ``out`` at the end, unless an error comes first.

    Args:
        out: made when it is not there; files of the same name in it are replaced.

    Raises:
        NotADirectoryError: ``out`` is a file.
    """
    home = out
    while not home.exists():
        home = home.parent
    if not home.is_dir():
        raise NotADirectoryError(f"can't write to {out}: {home} is a file, not a folder")
    # Beside the destination, hence on the same disk: moving a file there is atomic.
    with TemporaryDirectory(prefix=".captum-ib-", dir=home) as scratch:
        yield Path(scratch)
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted(Path(scratch).iterdir()):
            os.replace(file, out / file.name)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a record, indented, with the versions of everything that took part.

    Bytes of a file's name that are no UTF-8 are written as JSON's escapes and read back unchanged.
    """
    text = json.dumps({**record, "versions": versions()}, indent=2, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def printable(path: Path) -> str:
    r"""A path that any terminal takes: bytes that are no UTF-8 are written out.

    >>> printable(Path(os.fsdecode(b"cat-\xff.png")))
    'cat-\\xff.png'
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that a result depends on."""
    packages = ("captum_ib", "captum", "torch", "torchvision", "transformers", "timm", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}


def unique_names(paths: Sequence[Path]) -> list[str]:
    """A name for each picture's results: the file's, with a number where two are the same.

    >>> unique_names([Path("a/x.png"), Path("b/x.png"), Path("y.png")])
    ['x', 'x-2', 'y']
    """
    names: list[str] = []
    for path in paths:
        name, count = path.stem, 1
        while name in names:
            count += 1
            name = f"{path.stem}-{count}"
        names.append(name)
    return names
