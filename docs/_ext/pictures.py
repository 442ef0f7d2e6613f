"""Draws the pictures of ``figures.py`` before the pages are read."""

from __future__ import annotations

from pathlib import Path

import figures
from sphinx.application import Sphinx
from sphinx.util import logging

_log = logging.getLogger(__name__)


def _draw(app: Sphinx) -> None:
    if app.builder.format != "html":
        return
    for name in figures.draw_all(Path(app.srcdir) / "images" / "methods"):
        _log.info("picture %s has changed: look at it, and commit it", name)


def setup(app: Sphinx) -> dict[str, bool]:
    """Draw when the builder is ready."""
    app.connect("builder-inited", _draw)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
