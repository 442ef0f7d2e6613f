"""How alike the maps of single layers are, and which layer wins: CoIBA, Fig. 1."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from captum_ib.collapse import is_collapsed
from captum_ib.metrics import layer_agreement, layer_winners
from captum_ib.models.layers import default_layers
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material
from captum_ib.visualization import Panel, Style, grid

_SHOWN = 3


def layers(material: Material) -> Findings:
    """IBA at each layer that CoIBA can take: SSIM between the maps, ΔInsDel, who wins how often."""
    names = [name for name, _ in default_layers(material.model, "coiba", "auto")]
    maps, scores, empty = {}, {}, []
    for name in names:
        found = material.explain("iba", layer=name)
        material.tell(f"IBA at {name}")
        size = material.batches[0].pixels.shape[2:]
        maps[name] = np.concatenate([part.at(size) for part in found])
        scores[name] = material.score(found, "insdel")
        empty.append(torch.cat([is_collapsed(part.image) for part in found]).float().mean().item())
    alike, won = layer_agreement(maps), layer_winners(scores)
    table = pd.DataFrame(
        {
            "layer": names,
            "ΔInsDel": [np.nanmean(scores[name]) for name in names],
            "error": [np.nanstd(scores[name], ddof=1) / len(material) ** 0.5 for name in names],
            "wins": won.share,
            "collapsed": empty,
        }
    )
    similarity = pd.DataFrame(alike.ssim, columns=names)
    similarity.insert(0, "SSIM", names)
    between = alike.ssim[~np.eye(len(names), dtype=bool)]
    said = (
        f"Mean SSIM between the maps of two layers: {np.nanmean(between):.2f} "
        f"(lowest {np.nanmin(between):.2f}), {len(material)} samples.",
        f"The layer that wins most often, {names[int(np.nanargmax(won.share))]}, wins "
        f"{100 * np.nanmax(won.share):.0f} % of them. The paper shows that no single layer is best "
        "for all inputs; a share near 100 % would speak against it.",
    )
    if max(empty) > 0:
        said += (
            f"Of the maps, {100 * np.mean(empty):.0f} % have collapsed: nearly nothing passes, so "
            "their agreement is that of what is left.",
        )
    figures = {"ssim": alike.plot(), "winners": won.plot(), "maps": _drawn(material, maps)}
    return Findings({"layers": table, "ssim": similarity}, figures, said)


def _drawn(material: Material, maps: dict[str, np.ndarray]) -> Figure:
    """The maps of some samples, a picture and its layers per row."""
    pixels = material.batches[0].pixels[:_SHOWN]
    pictures = [material.loaded.picture(one).cpu().numpy() for one in pixels]
    rows = [
        [Panel(name, found[row, 0], unit="bits") for name, found in maps.items()]
        for row in range(len(pictures))
    ]
    return grid(pictures, rows, style=Style(columns=len(maps) + 1))
