"""The tutorials as pages with their outputs: run once, then kept in ``build/tutorials``.

A notebook runs again where the kept copy is older than the notebook; ``make tutorials`` runs all.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "build" / "tutorials"
TIMEOUT = 600
"""Seconds that a cell may take."""

_log = logging.getLogger(__name__)


def executed(notebook: Path, kept: Path = KEPT) -> Any:
    """The notebook with its outputs: the kept copy, or a fresh one that is kept from now on."""
    import nbformat
    from nbconvert.preprocessors import ExecutePreprocessor

    copy = kept / notebook.name
    if copy.is_file() and copy.stat().st_mtime >= notebook.stat().st_mtime:
        return nbformat.read(copy, as_version=4)
    _log.info("running %s", notebook.name)
    found = nbformat.read(notebook, as_version=4)
    runner = ExecutePreprocessor(timeout=TIMEOUT, kernel_name="python3")
    runner.preprocess(found, {"metadata": {"path": str(notebook.parent)}})
    kept.mkdir(parents=True, exist_ok=True)
    nbformat.write(found, copy)
    return found


def page(found: Any, name: str) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown, and the pictures that it shows, by their names beside the page."""
    from nbconvert import MarkdownExporter

    for cell in found.cells:
        if cell.cell_type == "code":  # bars and notices are not what the tutorial is about
            cell.outputs = [one for one in cell.outputs if one.get("name") != "stderr"]
    resources = {"output_files_dir": f"{name}_files", "unique_key": name}
    text, given = MarkdownExporter().from_notebook_node(found, resources)
    return linked(text), given.get("outputs") or {}


def linked(text: str) -> str:
    """A page's links, seen from ``docs/tutorials`` instead of ``tutorials``.

    >>> linked("[a](../docs/layers.md) [b](2_image.ipynb) [c](../README.md)")
    '[a](../layers.md) [b](2_image.md) [c](../index.md)'
    """
    text = re.sub(r"\]\(\.\./docs/", "](../", text)
    text = re.sub(r"\]\(\.\./README\.md", "](../index.md", text)
    return re.sub(r"\]\((?:\./)?(\w+)\.ipynb", r"](\1.md", text)


def _write(app: Sphinx) -> None:
    if app.builder.format != "html":
        return
    folder = Path(app.srcdir) / "tutorials"
    folder.mkdir(exist_ok=True)
    for notebook in sorted((ROOT / "tutorials").glob("*.ipynb")):
        text, pictures = page(executed(notebook), notebook.stem)
        (folder / f"{notebook.stem}.md").write_text(text, encoding="utf-8")
        for name, data in pictures.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages when the builder is ready."""
    app.connect("builder-inited", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
