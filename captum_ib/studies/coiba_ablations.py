"""Which information is compressed, and whether channels share a ratio: CoIBA, Fig. 10 a to c."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch

from captum_ib.benchmark.explainers import Maps
from captum_ib.metrics import linear_cka
from captum_ib.models.layers import default_layers
from captum_ib.studies.coiba_numbers import (
    Mean,
    agrees,
    bars,
    lines,
    mean_maps,
    mean_of,
    paired,
    ticks_of,
)
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material

_SCORES = {"Insertion": "insertion", "Deletion": "deletion", "ΔInsDel": "insdel"}


def bound(material: Material) -> Findings:
    """The bound at the first layer (eq. 8) against the mean over the layers (eq. 4)."""
    kinds = {"eq. 8": "upper_bound", "eq. 4": "layerwise"}
    scores = {
        label: _judged(material, material.explain("coiba", compression=kind))
        for label, kind in kinds.items()
    }
    gaps = {title: paired(scores["eq. 8"][title], scores["eq. 4"][title]) for title in _SCORES}
    table = pd.DataFrame(
        {
            "score": list(_SCORES),
            **{
                label: [mean_of(one[title]).value for title in _SCORES]
                for label, one in scores.items()
            },
            "eq. 8 − eq. 4": [gap.value for gap in gaps.values()],
            "error": [gap.error for gap in gaps.values()],
        }
    )
    gap = gaps["ΔInsDel"]
    said = (
        f"ΔInsDel, eq. 8 − eq. 4: {gap} ({gap.said}, paired, {len(material)} samples). The paper "
        f"has eq. 8 ahead: {agrees(gap)}.",
    )
    return Findings({"bound": table}, {"bound": bars(gaps, ylabel="eq. 8 − eq. 4")}, said)


def alignment(material: Material) -> Findings:
    """CKA of CoIBA's maps with those of IBA at each layer, by what CoIBA compresses.

    The paper reads an even CKA as fairness: no layer of the range counts more than another.
    """
    names = [name for name, _ in default_layers(material.model, "coiba")]
    ours = {
        label: _flat(material.explain("coiba", compression=kind))
        for label, kind in (("eq. 8", "upper_bound"), ("eq. 4", "layerwise"))
    }
    values: dict[str, list[float]] = {}
    for channel in ("elementwise", "uniform"):
        for name in names:
            theirs = _flat(material.explain("iba", layer=name, channel=channel))
            for label, maps in ours.items():
                values.setdefault(f"{label}, {channel} IBA", []).append(linear_cka(maps, theirs))
        material.tell(f"CKA with IBA, {channel}")
    spread = {label: float(np.nanstd(found, ddof=1)) for label, found in values.items()}
    table = pd.DataFrame({"layer": names, **values})
    fair = all(
        spread[f"eq. 8, {kind} IBA"] < spread[f"eq. 4, {kind} IBA"]
        for kind in ("elementwise", "uniform")
    )
    said = (
        "Standard deviation of CKA over the layers (0 would be perfectly fair): "
        + ", ".join(f"{label} {value:.3f}" for label, value in spread.items())
        + f"; {len(material)} samples. One CKA is of all samples together: it has no error.",
        "The paper finds eq. 8 more even over the layers than eq. 4: "
        + ("this agrees." if fair else "this does not show it, or not for both kinds of IBA."),
    )
    curves = {label: [Mean(value, 0.0) for value in found] for label, found in values.items()}
    figure = lines(curves, ticks_of(names), xlabel="layer of IBA", ylabel="linear CKA")
    return Findings({"cka": table}, {"cka": figure}, said)


def channels(material: Material) -> Findings:
    """One ratio per position against one per element, for CoIBA, IBA and IBA*."""
    star = [name for name, _ in default_layers(material.model, "coiba")]
    scores: dict[str, dict[str, np.ndarray]] = {}
    for channel in ("uniform", "elementwise"):
        found = {
            "CoIBA": material.explain("coiba", channel=channel),
            "IBA": material.explain("iba", channel=channel),
            "IBA*": mean_maps(
                [material.explain("iba", layer=name, channel=channel) for name in star]
            ),
        }
        for label, maps in found.items():
            scores.setdefault(label, {})[channel] = material.score(maps, "insdel")
        material.tell(f"λ {channel}")
    gaps = {label: paired(one["uniform"], one["elementwise"]) for label, one in scores.items()}
    rows = [
        {
            "method": label,
            "uniform": mean_of(one["uniform"]).value,
            "elementwise": mean_of(one["elementwise"]).value,
            "uniform − elementwise": gaps[label].value,
            "error": gaps[label].error,
        }
        for label, one in scores.items()
    ]
    said = (
        "ΔInsDel, uniform − elementwise (paired): "
        + ", ".join(f"{label} {gap} ({gap.said})" for label, gap in gaps.items())
        + f"; {len(material)} samples.",
        f"The paper has CoIBA better with uniform channels: {agrees(gaps['CoIBA'])}.",
    )
    figure = bars(gaps, ylabel="ΔInsDel, uniform − elementwise")
    return Findings({"channels": pd.DataFrame(rows)}, {"channels": figure}, said)


def _judged(material: Material, maps: list[Maps]) -> dict[str, Any]:
    return {title: material.score(maps, metric) for title, metric in _SCORES.items()}


def _flat(maps: list[Maps]) -> torch.Tensor:
    return torch.cat([batch.image for batch in maps]).flatten(1)
