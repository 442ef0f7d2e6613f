"""The table of supported models: what the tests run, and what docs/models.md shows.

Every row builds a small model of random weights from its configuration, and says which shapes the
methods' maps have. `python -m tests.models.supported` writes the table into docs/models.md.
"""

from __future__ import annotations

from pathlib import Path

from tests.models.classifiers import IMAGE_CLASSIFIERS, TEXT_CLASSIFIERS
from tests.models.duals import DUAL_ENCODERS
from tests.models.generators import GENERATORS
from tests.models.rows import Row

ROWS = (*IMAGE_CLASSIFIERS, *TEXT_CLASSIFIERS, *GENERATORS, *DUAL_ENCODERS)

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
GROUPS = {
    "Image classifiers": (IMAGE_CLASSIFIERS, ("iba", "coiba", "nib")),
    "Text classifiers": (TEXT_CLASSIFIERS, ("iba", "coiba", "nib")),
    "Models that generate": (GENERATORS, ("iba", "coiba", "nib")),
    "Dual encoders": (DUAL_ENCODERS, ("m2ib", "nib")),
}
TITLES = {"iba": "IBA", "coiba": "CoIBA", "nib": "NIB", "m2ib": "M2IB"}


def table() -> str:
    """The table in Markdown, one part per kind of model."""
    parts = []
    for title, (rows, methods) in GROUPS.items():
        head = ["model", "library", "input", *(TITLES[name] for name in methods), "replay", ""]
        lines = [f"### {title}\n", _line(head), "|---" * len(head) + "|"]
        for row in rows:
            cells = [shape(row.shapes[name]) for name in methods]
            replay = "; ".join(f"{TITLES[name]}: {why}" for name, why in row.fallback.items())
            lines.append(
                _line([row.name, row.library, inputs(row), *cells, replay or "yes", row.note])
            )
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def inputs(row: Row) -> str:
    """The shape of a row's inputs."""
    values = row.inputs()
    return " + ".join(
        shape(tuple(value.shape)) for value in (values if isinstance(values, tuple) else (values,))
    )


def shape(sizes: tuple) -> str:
    """`2×1×4×4`; of a pair both, joined by a plus."""
    if sizes and isinstance(sizes[0], tuple):
        return " + ".join(shape(each) for each in sizes)
    return "×".join(str(size) for size in sizes)


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def page() -> str:
    """The page with the table as it should be."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    return before + BEGIN + "\n" + table() + "\n" + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
