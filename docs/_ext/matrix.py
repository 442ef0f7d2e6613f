"""The comparison matrix in Captum's columns, made from the table of methods and their signatures.

``{method-matrix}`` in a page stands for the whole table; ``{method-matrix} classifier`` and
``{method-matrix} dual`` for the methods that explain such models.
"""

from __future__ import annotations

import inspect
from typing import Any

from captum.attr import GradientAttribution, PerturbationAttribution
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from captum_ib.attr.base import BottleneckAttribution
from captum_ib.methods import METHODS, MethodSpec

COLUMNS = (
    "Algorithm",
    "Type",
    "Application",
    "Space complexity",
    "Model passes",
    "Number of samples passed through the model",
    "Requires baseline",
    "Unit",
    "Description",
)
_PER_PASS = {
    "n_samples": "#draws",
    "n_integrals": "#steps",
    "perturbations_per_eval": "#perturbations_per_eval",
}
_WHOLE_PATH = {"n_steps", "internal_batch_size", "return_convergence_delta"}
"""Settings of the path integrals that send all points of the path through the model at once."""


def kind(row: MethodSpec) -> str:
    """Captum's "type": what the class descends from."""
    cls = row.cls
    for base, name in (
        (BottleneckAttribution, "Information bottleneck"),
        (PerturbationAttribution, "Perturbation"),
        (GradientAttribution, "Gradient"),
    ):
        if issubclass(cls, base):
            return name
    return "Attention"


def application(row: MethodSpec) -> str:
    """What it explains, and where in the model it looks."""
    models = {"classifier": "classifiers", "dual": "pairs", "generator": "answers"}
    explained = " and ".join(models[taken] for taken in sorted(row.takes))
    place = {"none": "", "one": ", at one layer", "many": ", at its layer or layers"}
    return explained.capitalize() + place[row.layers]


def space(row: MethodSpec) -> str:
    """What a pass holds at once, by the settings that multiply a batch."""
    parameters = _parameters(row)
    factors = [factor for name, factor in _PER_PASS.items() if name in parameters]
    if parameters.keys() >= _WHOLE_PATH:
        factors.append("#steps")
    bound = ", at most `internal_batch_size` rows" if "internal_batch_size" in parameters else ""
    return f"O({' · '.join([*factors, '#examples', '#features'])}){bound}"


def baseline(row: MethodSpec) -> str:
    """Whether there is one, and what it is for."""
    if "baselines" not in _parameters(row):
        return "No"
    if kind(row) == "Information bottleneck":
        return "Optional (reference inputs: mean and variance of the noise)"
    return "Optional (where the input starts, or what is masked)"


def cells(row: MethodSpec) -> list[str]:
    """One row of the matrix, in Markdown, in the order of :data:`COLUMNS`."""
    return [
        f"**{row.title}** `{row.name}` ({row.paper})",
        kind(row),
        application(row),
        space(row),
        "Forward and backward" if "backward" in row.passes else "Forward",
        row.passes,
        baseline(row),
        row.unit + (", signed" if row.signed else ", ≥ 0"),
        row.description.capitalize(),
    ]


def table(taken: str | None = None) -> list[str]:
    """The matrix as lines of a Markdown table; of one kind of model, or all.

    Raises:
        ValueError: no such kind.
    """
    if taken not in (None, "classifier", "dual", "generator"):
        raise ValueError(f"method-matrix takes classifier, dual or generator, given {taken!r}")
    rows = [row for row in METHODS.values() if taken is None or taken in row.takes]
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row) for row in rows)]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _parameters(row: MethodSpec) -> Any:
    return inspect.signature(row.cls.attribute).parameters


class Matrix(SphinxDirective):
    """``{method-matrix}``."""

    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """The parsed table, in a box of its own that styles can find."""
        box = nodes.container(classes=["matrix"])
        lines = table(self.arguments[0] if self.arguments else None)
        self.state.nested_parse(StringList(lines, source="captum_ib.methods"), 0, box)
        return [box]


def setup(app: Sphinx) -> dict[str, bool]:
    """Offer the directive."""
    app.add_directive("method-matrix", Matrix)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
