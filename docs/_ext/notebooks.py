"""The list of tutorials, read from the notebooks; and links to files beside ``docs/``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]


def opening(notebook: Path) -> tuple[str, str]:
    """Title and first paragraph of a notebook's first cell.

    Raises:
        ValueError: its first cell has no title.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "".join(cells[0]["source"])
    found = re.match(r"# (.+)\n+((?:.+\n?)*)", text)
    if found is None:
        raise ValueError(f"{notebook.name} opens without a title, expected '# …' on its first line")
    return found[1].strip(), " ".join(found[2].split())


def listing(folder: Path = ROOT / "tutorials") -> list[str]:
    """The tutorials as lines of Markdown."""
    lines = []
    for path in sorted(folder.glob("*.ipynb")):
        title, text = opening(path)
        lines += [f"## {title}", "", text, "", f"[{path.name}](../tutorials/{path.name})", ""]
    return lines


class Tutorials(SphinxDirective):
    """``{tutorials}``."""

    def run(self) -> list[nodes.Node]:
        """A section for each notebook."""
        return self.parse_text_to_nodes("\n".join(listing()), allow_section_headings=True)


def _pages(app: Sphinx, docname: str, source: list[str]) -> None:
    """Links to files of the repository that have a page here go to that page."""
    up = "../" * (docname.count("/") + 1)
    down = "../" * docname.count("/")
    for name, page in app.config.repository_pages.items():
        source[0] = source[0].replace(f"]({up}{name}", f"]({down}{page}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive, and mend the links before a page is parsed."""
    app.add_config_value("repository_pages", {}, "env")
    app.add_directive("tutorials", Tutorials)
    app.connect("source-read", _pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
