"""Figures of the papers that are no table of methods and metrics, one command each.

``captum-ib benchmark --preset NAME`` runs a study as it runs a table's preset, on the zoo or on a
model and data of one's own. A new study is one function in a file of this room and one row here.

>>> from captum_ib import studies
>>> studies.get("coiba-figure-1").paper
'Hong et al., CVPR 2025, Fig. 1'
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from captum_ib.studies.findings import Findings
    from captum_ib.studies.material import Material

__all__ = ["STUDIES", "Study", "get"]

_HONG = "Hong et al., CVPR 2025"
_ZHU = "Zhu et al., ICLR 2025"
_PAIRS: dict[str, object] = {"seed": 1_000_003}  # held out: no model of the zoo has seen them


@dataclass(frozen=True)
class Study:
    """One row of the table.

    Attributes:
        name: how it is asked for.
        path: module of this room and function, ``"agreement:layers"``; imported on first use.
        paper: authors, venue, year, and the number of the figure or table.
        title: what it shows, in a few words.
        model: that is taken when none is named.
        data: kind of data that is taken when none is named.
        samples: how many are taken when no number is given: minutes on two cores.
        options: of the data that is taken when none is named.
    """

    name: str
    path: str
    paper: str
    title: str
    model: str = "zoo:vit-scenes"
    data: str = "scenes"
    samples: int = 32
    options: dict[str, object] = field(default_factory=dict[str, object])

    def __call__(self, material: Material) -> Findings:
        """Carry it out."""
        module, name = self.path.split(":")
        function: Callable[[Material], Findings] = getattr(
            import_module(f"captum_ib.studies.{module}"), name
        )
        return function(material)


_ROWS = (
    Study(
        "coiba-figure-1",
        "agreement:layers",
        f"{_HONG}, Fig. 1",
        "maps of IBA at each layer: how alike they are, and which layer wins",
    ),
    Study(
        "nib-theorem-1",
        "nib_theorem:theorem",
        f"{_ZHU}, Theorem 1",
        "noise on the path from σ² = 1e-4 to 1e-1 against NIB, and against M2IB's fit",
        model="zoo:clip-scenes",
        samples=16,
        options=_PAIRS,
    ),
    Study(
        "nib-table-3",
        "nib_settings:steps",
        f"{_ZHU}, Table 3",
        "NIB with 5, 10, 15 and 20 steps",
        model="zoo:clip-scenes",
        options=_PAIRS,
    ),
    Study(
        "nib-table-4",
        "nib_settings:layers",
        f"{_ZHU}, Table 4",
        "NIB at blocks 3, 6 and 9 of 12",
        model="zoo:clip-scenes",
        options=_PAIRS,
    ),
    Study(
        "nib-beta",
        "nib_settings:beta",
        f"{_ZHU}, on hyperparameters",
        "M2IB from β = 0.01 to 10 against NIB, which has none",
        model="zoo:clip-scenes",
        options=_PAIRS,
    ),
)

STUDIES: dict[str, Study] = {row.name: row for row in _ROWS}
"""All studies by name."""


def get(name: str) -> Study:
    """A study by its name.

    Raises:
        ValueError: there is none; the message names the nearest.
    """
    if name not in STUDIES:
        near = difflib.get_close_matches(name, STUDIES, n=3, cutoff=0.4)
        hint = f"nearest: {', '.join(near)}; " if near else ""
        raise ValueError(f"unknown study {name!r}; {hint}all: {', '.join(STUDIES)}")
    return STUDIES[name]
