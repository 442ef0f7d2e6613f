"""The pages that a reader sees, their blocks of code and their links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted(
            path
            for path in DOCS.rglob("*.md")
            if not {"build", "tutorials"} & set(path.parts[-3:-1])
        ),
    )
}
"""Path from the repository's root → text."""

_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*?)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: the line of its first line, its language, the words behind it, its text."""

    line: int
    language: str
    words: tuple[str, ...]
    text: str


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order.

    >>> [block] = blocks("```python no-run\\n1\\n```")
    >>> block
    Block(line=2, language='python', words=('no-run',), text='1\\n')
    """
    for found in _FENCE.finditer(page):
        language, *words = found[3].split() or [""]
        line = page.count("\n", 0, found.start(4)) + 1
        yield Block(line, language, tuple(words), found[4])


def prose(page: str) -> str:
    """A page without its blocks and inline code, where brackets are links."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page))


def links(page: str) -> list[str]:
    """The targets of links and pictures.

    >>> links("[a](b.md#c) ![d](e.png) `[f](g)`")
    ['b.md#c', 'e.png']
    """
    text = _FENCE.sub("", page)
    text = re.sub(r"(?<!\[)`[^`\n]*`(?!\])", "", text)
    return re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them.

    >>> sorted(anchors("# One, two\\n## `layers=` here"))
    ['layers-here', 'one-two']
    """
    titles = re.findall(r"^#{1,6} (.+)$", _FENCE.sub("", page), flags=re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title).strip().lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}
