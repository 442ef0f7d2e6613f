"""Keep the files of the latest answers for download, and those of no others."""

from __future__ import annotations

import secrets
import shutil
import threading
import zipfile
from collections import OrderedDict
from pathlib import Path

from captum_ib.app.asking import Answer
from captum_ib.explaining.results import write_results
from captum_ib.visualization import Style

KEPT = 32
"""Answers whose files are kept; the oldest goes first."""
ARCHIVE = "all.zip"


class Results:
    """Folders of results under unguessable names.

    Args:
        home: an empty folder that belongs to this object.
        kept: so many answers at most.
    """

    def __init__(self, home: Path, kept: int = KEPT) -> None:
        self._home = home
        self._kept = kept
        self._files: OrderedDict[str, dict[str, Path]] = OrderedDict()
        self._lock = threading.Lock()

    def add(
        self, answer: Answer, style: Style | None = None, instead: str = ""
    ) -> tuple[str, list[str]]:
        """Write what ``captum-ib explain`` writes, and an archive of it.

        Args:
            answer: what was found.
            style: of the figures.
            instead: token of the same answer in another style, whose files go.

        Returns:
            The answer's token, and the names of its files.
        """
        token = secrets.token_urlsafe(16)
        folder = self._home / token
        folder.mkdir()
        stem = Path(answer.origin.image).stem
        write_results(folder, stem, answer.subject, answer.results, answer.origin, style)
        files = {file.name: file for file in sorted(folder.iterdir())}
        with zipfile.ZipFile(folder / ARCHIVE, "w") as archive:  # what is in it is compressed
            for name, file in files.items():
                archive.write(file, name)
        with self._lock:
            self._files[token] = {**files, ARCHIVE: folder / ARCHIVE}
            gone = [instead] if self._files.pop(instead, None) is not None else []
            gone += [
                self._files.popitem(last=False)[0] for _ in range(len(self._files) - self._kept)
            ]
        for old in gone:
            shutil.rmtree(self._home / old, ignore_errors=True)
        return token, list(files)

    def find(self, token: str, name: str) -> Path | None:
        """The file of an answer that is still kept; nothing else is ever found."""
        with self._lock:
            return self._files.get(token, {}).get(name)
