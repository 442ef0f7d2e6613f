"""Theorem 1 in numbers: the bottleneck's noise goes to nothing, and what is left is NIB.

The bottleneck Z = λR + (1 − λ)ε is NIB's path z̃(λ) = b + λ(z − b) that starts at b = ε. With
ε ~ N(0, σ²) and σ² → 0 the path is the one from 0, so NIB with noise as its baseline says how fast
the map gets there. What M2IB *fits* at the same σ² is another thing, and measured beside it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from captum_ib.attr import NIB
from captum_ib.benchmark.explainers import Maps
from captum_ib.benchmark.subjects import Pairs
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material
from captum_ib.studies.nib_scores import (
    chart,
    columns_of,
    judged,
    mean_and_error,
    pairs_model,
    pairs_of,
)

VARIANCES = (1e-4, 1e-3, 1e-2, 1e-1)
DRAWS = 4


def noises(
    shapes: Sequence[Sequence[int]], variance: float, draws: int, seed: int
) -> Iterator[tuple[Tensor, ...]]:
    """Draws of ε ~ N(0, σ²), one tensor per layer, the same for every sample; −ε follows ε.

    Args:
        shapes: of the layers' activations without the axis of samples.
        variance: σ².
        draws: how many; an odd number is rounded up, as draws come in pairs.
        seed: the same seed gives the same standard normal draws for every σ².

    >>> [round(float(sum(pair)), 3) for pair in zip(*noises([(1,)], 0.1, 2, seed=0))]
    [0.0]
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range((draws + 1) // 2):
        drawn = [torch.randn(1, *shape, generator=generator) * variance**0.5 for shape in shapes]
        yield tuple(drawn)
        yield tuple(-one for one in drawn)


def noisy_maps(model: DualEncoder, pairs: Pairs, variance: float, seed: int) -> Maps:
    """NIB along paths that start at noise, the mean over :data:`DRAWS`."""
    nib, device = NIB(model), pairs.pixels.device
    inputs, extra = (pairs.pixels, pairs.input_ids), pairs.mask
    whole = nib.attribute(inputs, None, None, extra, n_steps=2, reduce="none")
    starts = noises([one.shape[1:] for one in whole], variance, DRAWS, seed)
    found = [
        nib.attribute(inputs, tuple(one.to(device) for one in start), None, extra)
        for start in starts
    ]
    image, text = (torch.stack(side).mean(dim=0).cpu() for side in zip(*found, strict=True))
    return Maps(image, text)


def distances(found: Tensor, exact: Tensor, counts: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """‖A − A'‖ / ‖A'‖ and Pearson's r of every sample's map with another, ``(N,)`` each.

    Args:
        found, exact: A and A', of one shape.
        counts: the places that count, of the same shape, bool.

    >>> distances(*torch.tensor([[[2.0, 4.0]], [[1.0, 2.0]]]), torch.ones(1, 2))
    (array([1.]), array([1.]))
    """
    weight = counts.flatten(1).double()
    one, other = (value.flatten(1).double() * weight for value in (found, exact))
    gap = (one - other).norm(dim=1) / other.norm(dim=1)
    total = weight.sum(dim=1, keepdim=True)
    one, other = (
        (value - value.sum(dim=1, keepdim=True) / total) * weight for value in (one, other)
    )
    r = (one * other).sum(dim=1) / (one.norm(dim=1) * other.norm(dim=1))
    return gap.numpy(), r.numpy()


def compared(
    material: Material, found: Sequence[Maps], exact: Sequence[Maps]
) -> dict[str, np.ndarray]:
    """Distance and correlation of maps with others, of both sides, padding left out."""
    columns: dict[str, list[np.ndarray]] = {}
    for batch, one, other in zip(pairs_of(material), found, exact, strict=True):
        valid = torch.from_numpy(batch.valid)
        for side, counts in (("image", torch.ones_like(one.image)), ("text", valid)):
            gap, r = distances(getattr(one, side), getattr(other, side), counts)
            columns.setdefault(f"gap {side}", []).append(gap)
            columns.setdefault(f"r {side}", []).append(r)
    return {name: np.concatenate(parts) for name, parts in columns.items()}


def theorem(material: Material) -> Findings:
    """σ² from 1e-4 to 1e-1: NIB with noise on its path, and M2IB's fit, against NIB without."""
    model = pairs_model(material)
    exact = material.explain("nib")
    rows, fits, alike = [], [], {}
    for variance in VARIANCES:
        maps = [noisy_maps(model, batch, variance, material.seed) for batch in pairs_of(material)]
        alike[variance] = compared(material, maps, exact)
        scores = judged(material, maps)
        rows.append({"σ²": variance, **columns_of(alike[variance]), **columns_of(scores)})
        fitted = compared(material, material.explain("m2ib", variance=variance), exact)
        fits.append(
            {"σ²": variance, **columns_of({k: v for k, v in fitted.items() if k.startswith("r ")})}
        )
        material.tell(f"σ² = {variance:g}")
    table, fit = pd.DataFrame(rows), pd.DataFrame(fits)
    own = pd.DataFrame([columns_of(judged(material, exact))])
    figures = {
        "gap": chart(table, "σ²", ("gap image", "gap text"), logarithmic="xy"),
        "fit": chart(fit, "σ²", ("r image", "r text"), logarithmic="x"),
    }
    said = tuple(_said(side, alike, fit, len(material)) for side in ("image", "text"))
    return Findings({"noise": table, "nib": own, "m2ib": fit}, figures, said)


def _said(side: str, alike: dict[float, dict[str, np.ndarray]], fit: pd.DataFrame, n: int) -> str:
    gaps = [mean_and_error(alike[variance][f"gap {side}"])[0] for variance in VARIANCES]
    falls = all(low < high for low, high in itertools.pairwise(gaps))
    order = np.polyfit(np.log10(VARIANCES), np.log10(gaps), 1)[0]
    r = fit[f"r {side}"].iloc[0]
    return (
        f"{side}: the map of the noisy path is {gaps[-1]:.2g} of NIB's norm away at σ² = "
        f"{VARIANCES[-1]:g} and {gaps[0]:.2g} at {VARIANCES[0]:g}, "
        f"{'falling' if falls else 'not always falling'} with σ^{2 * order:.1f} ({n} pairs, "
        f"{DRAWS} draws): the limit of Theorem 1 is {'seen' if falls else 'not seen'}. The bits "
        f"that M2IB fits at σ² = {VARIANCES[0]:g} have r = {r:.2f} with NIB's map."
    )
