"""Where the range of layers starts and where it ends, against IBA*: CoIBA, Fig. 3 and Fig. 8."""

from __future__ import annotations

import numpy as np
import pandas as pd

from captum_ib.benchmark.explainers import Maps
from captum_ib.models.layers import default_layers
from captum_ib.studies.coiba_numbers import lines, mean_maps, mean_of, paired, ticks_of
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material


def start(material: Material) -> Findings:
    """CoIBA from each layer to the last one, and IBA* over the same layers."""
    names = _names(material)
    ranges = {name: names[place:] for place, name in enumerate(names)}
    return _swept(material, ranges, "start", "first layer of the range")


def arrival(material: Material) -> Findings:
    """CoIBA from its first layer by default to each layer behind it, and IBA* over the same."""
    names = _names(material)
    first = default_layers(material.model, "coiba")[0][0]
    begin = names.index(first) if first in names else 0
    ranges = {names[place]: names[begin : place + 1] for place in range(begin, len(names))}
    return _swept(material, ranges, "arrival", "last layer of the range")


def _names(material: Material) -> list[str]:
    return [name for name, _ in default_layers(material.model, "coiba", "auto")]


def _swept(material: Material, ranges: dict[str, list[str]], end: str, xlabel: str) -> Findings:
    """ΔInsDel of CoIBA and of IBA* for ranges of layers, called by the end that moves."""
    single: dict[str, list[Maps]] = {}
    for name in sorted(
        {name for names in ranges.values() for name in names}, key=_names(material).index
    ):
        single[name] = material.explain("iba", layer=name)
        material.tell(f"IBA at {name}")
    ours, star = {}, {}
    for moved, names in ranges.items():
        ours[moved] = material.score(material.explain("coiba", layers=names), "insdel")
        star[moved] = material.score(mean_maps([single[name] for name in names]), "insdel")
        material.tell(f"CoIBA and IBA* over {len(names)} layers, {end} at {moved}")
    means = {
        "CoIBA": [mean_of(x) for x in ours.values()],
        "IBA*": [mean_of(x) for x in star.values()],
    }
    gaps = [paired(ours[moved], star[moved]) for moved in ranges]
    table = pd.DataFrame(
        {
            end: list(ranges),
            "layers": [len(names) for names in ranges.values()],
            "CoIBA": [mean.value for mean in means["CoIBA"]],
            "IBA*": [mean.value for mean in means["IBA*"]],
            "CoIBA − IBA*": [gap.value for gap in gaps],
            "error": [gap.error for gap in gaps],
        }
    )
    spread = {
        label: float(np.ptp([mean.value for mean in found])) for label, found in means.items()
    }
    better = sum(gap.said == "above 0" for gap in gaps)
    worse = sum(gap.said == "below 0" for gap in gaps)
    said = (
        f"While the {end} moves, ΔInsDel ranges over {spread['CoIBA']:.2f} for CoIBA and "
        f"{spread['IBA*']:.2f} for IBA*, {len(material)} samples.",
        f"CoIBA is above IBA* by two errors of the paired differences in {better} of {len(gaps)} "
        f"ranges, below in {worse}. The paper finds it above in all: "
        f"{'this agrees' if better == len(gaps) else 'this does not show it'}.",
    )
    figure = lines(means, ticks_of(list(ranges)), xlabel=xlabel, ylabel="ΔInsDel")
    return Findings({end: table}, {end: figure}, said)
