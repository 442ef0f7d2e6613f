"""What a setting does to NIB and to M2IB: steps, layers, β (Zhu et al., Tables 3 and 4)."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material
from captum_ib.studies.nib_scores import apart, chart, columns_of, judged, pairs_model

STEPS = (5, 10, 15, 20)
BLOCKS = (3, 6, 9)
BETAS = (0.01, 0.1, 1.0, 10.0)
DEPTH = 12
DROPS = ("drop_image", "drop_text")


def steps(material: Material) -> Findings:
    """Table 3: NIB with 5, 10, 15 and 20 points on the path; scores and pairs a second."""
    pairs_model(material)
    found, rows = {}, []
    for count in STEPS:
        start = time.perf_counter()
        maps = material.explain("nib", n_steps=count)
        seconds = time.perf_counter() - start
        found[count] = judged(material, maps)
        rows.append(
            {"steps": count, **columns_of(found[count]), "pairs a second": len(material) / seconds}
        )
        material.tell(f"NIB with {count} steps")
    table = pd.DataFrame(rows)
    said = tuple(
        f"{name}, {count} steps against the paper's 10, paired over {len(material)} pairs: "
        f"{apart(found[count][name], found[10][name])}."
        for name in DROPS
        for count in STEPS
        if count != 10
    )
    return Findings({"steps": table}, {"drops": chart(table, "steps", DROPS)}, said)


def layers(material: Material) -> Findings:
    """Table 4: NIB at blocks 3, 6 and 9 of 12, on other depths at the same share of it."""
    model = pairs_model(material)
    found, rows = {}, []
    for block in BLOCKS:
        names = [model.default_layer(side, block / DEPTH)[0] for side in model.modalities[:2]]
        found[block] = judged(material, material.explain("nib", layer=tuple(names)))
        where = dict(zip(("image", "text"), names, strict=True))
        rows.append({"block of 12": block, **where, **columns_of(found[block])})
        material.tell(f"NIB at block {block} of 12")
    table = pd.DataFrame(rows)
    best = {name: BLOCKS[int(np.nanargmin(table[name]))] for name in DROPS}
    said = tuple(
        f"{name} is lowest at block {best[name]} of 12. Block {block} against the paper's 9, "
        f"paired over {len(material)} pairs: {apart(found[block][name], found[9][name])}."
        for name in DROPS
        for block in BLOCKS[:-1]
    )
    return Findings({"layers": table}, {"drops": chart(table, "block of 12", DROPS)}, said)


def beta(material: Material) -> Findings:
    """M2IB with four β against NIB, which has none."""
    pairs_model(material)
    own = judged(material, material.explain("nib"))
    found, rows = {}, []
    for value in BETAS:
        found[value] = judged(material, material.explain("m2ib", beta=value))
        rows.append({"β": value, **columns_of(found[value])})
        material.tell(f"M2IB with β = {value:g}")
    rows.append({"β": np.nan, **columns_of(own)})
    table = pd.DataFrame(rows)
    table.insert(0, "method", ["M2IB"] * len(BETAS) + ["NIB"])
    said: list[str] = []
    for name in DROPS:
        means = [float(np.nanmean(found[value][name])) for value in BETAS]
        said.append(
            f"{name} of M2IB lies between {min(means):.2f} and {max(means):.2f} over β = "
            f"{', '.join(f'{value:g}' for value in BETAS)} ({len(material)} pairs, seed "
            f"{material.seed}). NIB has no β: {float(np.nanmean(own[name])):.2f}."
        )
    figure = chart(pd.DataFrame(rows[:-1]), "β", DROPS, logarithmic="x")
    return Findings({"beta": table}, {"drops": figure}, tuple(said))
