"""Formulas as MathML, which browsers draw by themselves: no script, no font from elsewhere."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx

_ACCENTS = {"0005E": "\u0302", "0223C": "\u0303", "0007E": "\u0303"}
"""What the converter sets above a letter → the same as part of that letter."""
_ACCENTED = re.compile(
    r"<mover[^>]*>(?:<mrow>)?<mi>([^<]+)</mi>(?:</mrow>)?<mo[^>]*>&#x([0-9A-F]+);</mo></mover>"
)
_SIMILAR = re.compile("<mi>&#x0(?:007E|223C);</mi>")
"""The relation ∼, which wants its space; older versions of the converter write ~."""


def mathml(tex: str, display: str) -> str:
    """A formula in LaTeX as a ``<math>`` element.

    Accents become part of their letter: set above it by the browser they lie across it where no
    mathematical font is installed.

    >>> mathml(r"\\hat{R}", "inline").count("mover"), "\\u0302" in mathml(r"\\hat{R}", "inline")
    (0, True)
    """

    def join(found: re.Match) -> str:
        accent = _ACCENTS.get(found[2])
        if accent is None:
            return found[0]
        return f'<mi style="font-style: italic">{found[1]}{accent}</mi>'

    code = _ACCENTED.sub(join, convert(tex, display=display))
    return _SIMILAR.sub("<mo>&#x0223C;</mo>", code)


def parts(tex: str) -> list[str]:
    """The pieces of a displayed formula between which a narrow page may break it.

    >>> parts(r"a = b, \\qquad c = d")
    ['a = b,', 'c = d']
    """
    return [piece.strip() for piece in re.split(r"\\qquad|\\quad", tex) if piece.strip()]


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(translator.starttag(node, "div", CLASS="math"))
    for piece in parts(node.astext()):
        translator.body.append(f"<span>{mathml(piece, 'block')}</span>\n")
    translator.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the renderer; ``conf.py`` chooses it."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
