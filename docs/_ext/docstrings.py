"""What docstrings write plainly and reStructuredText would read otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).parents[1]


def linked(line: str) -> str:
    """A line in which the pages that it names are links.

    >>> linked("see docs/layers.md and docs/nowhere.md")
    'see :doc:`/layers` and docs/nowhere.md'
    """

    def link(found: re.Match) -> str:
        return f":doc:`/{found[1]}`" if (DOCS / f"{found[1]}.md").is_file() else found[0]

    return re.sub(r"(?:``)?\bdocs/([\w/]+)\.md(?:``)?", link, line)


def escaped(line: str) -> str:
    """A line in which a bar is a bar, and not the beginning of a substitution; code stays as it is.

    >>> escaped("|Σ A| and ``a|b``")
    '\\\\|Σ A\\\\| and ``a|b``'
    """
    parts = re.split(r"(``.+?``|`[^`]+`)", line)
    return "".join(part if part.startswith("`") else part.replace("|", r"\|") for part in parts)


def _mend(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [
        line if line.lstrip().startswith((">>>", "...")) else linked(escaped(line))
        for line in lines
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Mend docstrings before napoleon and autodoc read them."""
    app.connect("autodoc-process-docstring", _mend, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
