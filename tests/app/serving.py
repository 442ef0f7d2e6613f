"""The real command in a process of its own, where Gradio may leave threads and loops behind."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

MEGABYTES, MEGAPIXELS = "0.2", "0.05"


@dataclass(frozen=True)
class Served:
    """A running ``captum-ib app``: its address, its process, and the folder for its files."""

    address: str
    process: subprocess.Popen
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    @property
    def home(self) -> Path:
        (home,) = self.folder.glob("captum-ib-app-*")
        return home

    @property
    def uploads(self) -> set[Path]:
        return set((self.home / "uploads").iterdir())


@contextmanager
def serving(folder: Path, before: str = "", *options: str) -> Iterator[Served]:
    """Start the app, with ``before`` run in its process first; end it."""
    arguments = ["app", "--port", "0", "--max-megabytes", MEGABYTES]
    arguments += ["--max-megapixels", MEGAPIXELS, *options]
    code = f"{before}\nfrom captum_ib.cli import main\nraise SystemExit(main({arguments!r}))"
    with (folder / "log.txt").open("w") as log:  # a pipe that nobody reads would fill up
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"},
        )
    late = threading.Timer(300, process.kill)
    late.start()
    line = process.stdout.readline()
    late.cancel()
    address = re.search(r"http://127\.0\.0\.1:\d+", line)
    if address is None:
        process.kill()
        process.communicate()
        pytest.fail(f"the page did not start: {line}{(folder / 'log.txt').read_text()}")
    try:
        yield Served(address[0], process, folder)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
