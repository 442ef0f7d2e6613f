"""The list of tutorials, read from the notebooks; and links to files beside ``docs/``."""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

ROOT = Path(__file__).parents[2]
_NO_PROSE = ("```", "- ", "* ", "|", "1. ")


def opening(notebook: Path) -> tuple[str, str]:
    """Title of a notebook, and the paragraph of its first cell that says what it is about.

    That is the first one which neither leads over to something else nor says, as all notebooks do,
    which line to change for another model; else the first one.

    Raises:
        ValueError: its first cell has no title.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    title, *rest = re.split(r"\n\s*\n", "".join(cells[0]["source"]).strip())
    if not title.startswith("# "):
        raise ValueError(f"{notebook.name} opens without a title, expected '# …' on its first line")
    prose = [" ".join(part.split()) for part in rest if not part.startswith(_NO_PROSE)]
    about = [part for part in prose if part.endswith(".") and "change one line" not in part]
    return title[2:].strip(), re.sub(":$", ".", next(iter(about + prose), ""))


def listing(folder: Path = ROOT / "tutorials") -> list[str]:
    """The tutorials as lines of Markdown."""
    lines = []
    for path in sorted(folder.glob("*.ipynb")):
        title, text = opening(path)
        lines += [f"## {title}", "", text, "", f"[Read it](tutorials/{path.stem}.md)", ""]
    pages = [f"tutorials/{path.stem}" for path in sorted(folder.glob("*.ipynb"))]
    return [*lines, "```{toctree}", ":hidden:", "", *pages, "```"]


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
