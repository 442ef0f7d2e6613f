"""No dead links: relative targets exist, their anchors too, and every page is in the contents."""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, anchors, blocks, links

OUTSIDE = ("https://", "http://", "mailto:")


def relative(page: str) -> list[str]:
    return [target for target in links(PAGES[page]) if not target.startswith(OUTSIDE)]


def resolved(page: str, target: str) -> str:
    """Path from the repository's root of what a link on a page leads to."""
    return normpath(Path(page).parent / target) if target else page


@pytest.mark.parametrize("page", [page for page in PAGES if relative(page)])
def test_relative_links_lead_somewhere(page):
    for link in relative(page):
        target, _, anchor = link.partition("#")
        path = resolved(page, target)
        assert (ROOT / path).exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(PAGES[path]), f"{page}: {link}, has {anchors(PAGES[path])}"


def entries(page: str) -> list[str]:
    """What the tables of contents of a page list."""
    found = [block for block in blocks(PAGES[page]) if block.language == "{toctree}"]
    lines = [line for block in found for line in block.text.splitlines()]
    return [line for line in lines if line and not line.startswith(":")]


def test_every_page_is_in_the_contents():
    pages = {page for page in PAGES if page.startswith("docs/")}
    listed = {"docs/index.md"}
    for page in pages:
        listed |= {resolved(page, f"{entry}.md") for entry in entries(page)}
    assert listed == pages


def test_pages_named_in_docstrings_exist():
    for path in (ROOT / "captum_ib").rglob("*.py"):
        for name in re.findall(r"\bdocs/[\w/]+\.md", path.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{path.name}: {name}"


def test_pictures_in_the_docs_are_used():
    used = {resolved(page, link) for page in PAGES for link in relative(page)}
    for path in (DOCS / "images").rglob("*.png"):
        assert str(path.relative_to(ROOT)) in used, path.name


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("[a](b.md) `[c](d.md)` ![e](f.png)\n```\n[g](h.md)\n```\n", ["b.md", "f.png"]),
        ("[`code`](x.md#y-z) [two\nlines](z.md)", ["x.md#y-z", "z.md"]),
    ],
)
def test_links_are_found(page, found):
    assert links(page) == found
