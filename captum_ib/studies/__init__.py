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
_BOURIGAULT = "Bourigault, Bourigault, Mandic"
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
        "coiba-figure-3",
        "coiba_sweeps:start",
        f"{_HONG}, Fig. 3",
        "CoIBA and IBA* while the first layer of the range moves",
        samples=24,
    ),
    Study(
        "coiba-figure-4",
        "coiba_difficulty:insertion_deletion",
        f"{_HONG}, Fig. 4",
        "Insertion, Deletion and ΔInsDel in 20 bins of the model's confidence",
        model="zoo:vit-relations",
        samples=64,
    ),
    Study(
        "coiba-figure-6",
        "coiba_birds:radar",
        f"{_HONG}, Fig. 6",
        "radar of all methods: --data funnybirds:FOLDER and a --model of its classes",
        data="funnybirds",
        samples=40,
    ),
    Study(
        "coiba-figure-7",
        "coiba_difficulty:road",
        f"{_HONG}, Fig. 7",
        "ΔROAD in 20 bins of the model's confidence",
        model="zoo:vit-relations",
        samples=64,
    ),
    Study(
        "coiba-figure-8",
        "coiba_sweeps:arrival",
        f"{_HONG}, Fig. 8",
        "CoIBA and IBA* while the last layer of the range moves",
        samples=24,
    ),
    Study(
        "coiba-figure-9a",
        "coiba_information:layers",
        f"{_HONG}, Fig. 9a and eq. 7",
        "information at each bottleneck, compressed at the first layer or at all",
    ),
    Study(
        "coiba-figure-9b",
        "coiba_information:accuracy",
        f"{_HONG}, Fig. 9b",
        "accuracy through the noise against the number of layers",
    ),
    Study(
        "coiba-figure-9c",
        "coiba_information:sharing",
        f"{_HONG}, Fig. 9c",
        "one damping ratio for all layers, or one per layer",
    ),
    Study(
        "coiba-figure-10a",
        "coiba_ablations:bound",
        f"{_HONG}, Fig. 10a",
        "the bound at the first layer (eq. 8) against the mean over layers (eq. 4)",
    ),
    Study(
        "coiba-figure-10b",
        "coiba_ablations:alignment",
        f"{_HONG}, Fig. 10b",
        "CKA of CoIBA's maps with those of IBA at each layer, uniform or not",
    ),
    Study(
        "coiba-figure-10c",
        "coiba_ablations:channels",
        f"{_HONG}, Fig. 10c",
        "one ratio per position or per element, for CoIBA, IBA and IBA*",
    ),
    Study(
        "ca-m2ib-figure-2",
        "pairs:maps",
        f"{_BOURIGAULT}, Fig. 2",
        "seven methods on pairs, with the ground truth outlined",
        model="zoo:clip-scenes",
        samples=16,
    ),
    Study(
        "ca-m2ib-figure-3",
        "pairs:degraded",
        f"{_BOURIGAULT}, Fig. 3",
        "pairs that keep, and that lack, what each method marks",
        model="zoo:clip-scenes",
        samples=16,
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
