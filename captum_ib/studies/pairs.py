"""Pictures of CA-M2IB's paper: maps and the truth (Fig. 2), degraded pairs (Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from captum_ib.benchmark.explainers import Maps
from captum_ib.benchmark.subjects import Pairs
from captum_ib.metrics import degraded_sample
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material
from captum_ib.visualization import caption, overlay
from captum_ib.visualization.sheet import lines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEVEN: dict[str, tuple[str, dict[str, Any]]] = {
    "Grad-CAM": ("layergradcam", {}),
    "Saliency": ("saliency", {}),
    "Kernel SHAP": ("kernelshap", {"n_samples": 128}),
    "RISE": ("rise", {"n_masks": 128}),
    "Chefer": ("genericattention", {}),
    "M2IB": ("m2ib", {}),
    "CA-M2IB": ("cam2ib", {}),
}
"""The paper's methods; label → method and settings."""

SHOWN = 4
"""Most samples in a picture; tables are over all."""


def maps(material: Material) -> Findings:
    """Seven methods on images and captions, the truth outlined; IoU and pointing game of each."""
    found = _explained(material)
    rows = [
        {
            "method": label,
            "IoU": _mean(material.score(own, "iou")),
            "pointing game": _mean(material.score(own, "pointing_game")),
            "share on content words": _mean(material.score(own, "word_share")),
        }
        for label, own in found.items()
    ]
    table = pd.DataFrame(rows)
    if table["IoU"].isna().all():
        raise ValueError("this figure is of pairs with a truth: the data has no masks or boxes")
    best = table.loc[table["IoU"].idxmax()]
    ours = table.set_index("method")["IoU"]
    said = (
        f"Highest mean IoU of {len(material)} pairs: {best['method']} ({best['IoU']:.3f}); CA-M2IB "
        f"{ours['CA-M2IB']:.3f}, M2IB {ours['M2IB']:.3f}. The paper shows CA-M2IB closest to the "
        "boxes.",
    )
    return Findings({"localisation": table}, {"maps": _sheet(material, found)}, said)


def degraded(material: Material) -> Findings:
    """What is left of pairs where a method's map is kept, and where it is removed."""
    found, rows, drawn = _explained(material), [], []
    for label, own in found.items():
        cosines, first = [], None
        for batch, of_batch in zip(material.batches, own, strict=True):
            pairs = cast(Pairs, batch)
            change = _degraded(material, pairs, of_batch)
            first = first or (pairs, change)
            cosines.append(_cosines(material, pairs, change))
        assert first is not None
        drawn.append((label, *first))
        rows.append({"method": label, **pd.concat(cosines).mean().to_dict()})
    table = pd.DataFrame(rows)
    by = table.set_index("method")
    said = (
        f"Mean cosine of {len(material)} pairs as they are: {by['pair'].iloc[0]:.3f}. With the "
        f"image kept by its map: CA-M2IB {by.loc['CA-M2IB', 'kept image']:.3f}, M2IB "
        f"{by.loc['M2IB', 'kept image']:.3f}; with the best quarter of its pixels removed: CA-M2IB "
        f"{by.loc['CA-M2IB', 'ROAR+ image']:.3f}, M2IB {by.loc['M2IB', 'ROAR+ image']:.3f}. A "
        "faithful map keeps the first high and brings the second down.",
    )
    return Findings({"cosines": table}, {"samples": _strips(material, drawn)}, said)


def _explained(material: Material) -> dict[str, list[Maps]]:
    if not all(isinstance(batch, Pairs) for batch in material.batches):
        raise ValueError("this figure is of image-text pairs: give a dual encoder with --model")
    found: dict[str, list[Maps]] = {}
    for label, (method, settings) in SEVEN.items():
        found[label] = material.explain(method, **settings)
        material.tell(label)
    return found


def _degraded(material: Material, pairs: Pairs, own: Maps) -> Any:
    text = material.reader.text
    assert text is not None and own.text is not None
    return degraded_sample(
        pairs.pixels,
        pairs.input_ids,
        own.at(pairs.pixels.shape[2:]),
        own.text.numpy(),
        special_tokens=text.special_ids,
        blank_token=text.blank(None),
        mask=pairs.mask,
    )


def _cosines(material: Material, pairs: Pairs, change: Any) -> pd.DataFrame:
    mask = [] if pairs.mask is None else [pairs.mask]
    asked = {
        "pair": (pairs.pixels, pairs.input_ids),
        "kept image": (change.kept_image, pairs.input_ids),
        "kept caption": (pairs.pixels, change.kept_text),
        "ROAR+ image": (change.removed_image, pairs.input_ids),
        "ROAR+ caption": (pairs.pixels, change.removed_text),
    }
    with torch.no_grad():
        found = {name: material.model(*pair, *mask).tolist() for name, pair in asked.items()}
    return pd.DataFrame(found)


def _sheet(material: Material, found: dict[str, list[Maps]]) -> Figure:
    """A row per sample: the picture with the truth, then each method's map and words."""
    pairs = cast(Pairs, material.batches[0])
    shown = min(SHOWN, len(pairs))
    figure, axes = _axes(2 * shown, 1 + len(found), [1.0, 0.35] * shown)
    for row in range(shown):
        pixels = _pixels(material, pairs.pixels[row])
        _picture(axes[2 * row][0], pixels, "" if row else "truth", pairs.truth[row])
        words, valid = _words(pairs, row)
        _write(axes[2 * row + 1][0], words)
        for column, (label, own) in enumerate(found.items(), start=1):
            values = own[0].at(pixels.shape[1:])[row]
            _picture(
                axes[2 * row][column],
                overlay(pixels, values),
                "" if row else label,
                pairs.truth[row],
            )
            text = own[0].text
            assert text is not None
            caption(axes[2 * row + 1][column], words, text[row].numpy()[valid])
    return figure


def _strips(material: Material, drawn: Sequence[tuple[str, Pairs, Any]]) -> Figure:
    """A row per method, of the first sample: kept and removed, picture and caption."""
    figure, axes = _axes(2 * len(drawn), 3, [1.0, 0.35] * len(drawn))
    for number, (label, pairs, change) in enumerate(drawn):
        above, below = axes[2 * number], axes[2 * number + 1]
        parts = (
            ("pair", pairs.pixels, pairs.input_ids),
            ("kept", change.kept_image, change.kept_text),
            ("ROAR+", change.removed_image, change.removed_text),
        )
        for ax, under, (title, images, ids) in zip(above, below, parts, strict=True):
            heading = label if title == "pair" else title
            _picture(ax, _pixels(material, images[0]), heading, None)
            _write(under, _words(pairs, 0, material, ids)[0])
    return figure


def _mean(scores: np.ndarray) -> float:
    """The mean of those that there are; NaN where there are none, as without words of content."""
    known = scores[~np.isnan(scores)]
    return float(known.mean()) if len(known) else float("nan")


def _axes(rows: int, columns: int, heights: Sequence[float]) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.6 * columns, 1.6 * sum(heights)), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, height_ratios=list(heights))
    for ax in axes.flat:
        ax.set_axis_off()
    return figure, axes


def _picture(ax: Axes, pixels: np.ndarray, title: str, truth: np.ndarray | None) -> None:
    """A picture ``(3, H, W)`` or ``(H, W, 3)``, with the outline of the truth."""
    image = pixels.transpose(1, 2, 0) if pixels.shape[0] == 3 else pixels
    ax.set_title(title, fontsize=8)
    if truth is None or not truth.any():
        ax.imshow(image)
        return
    height, width = truth.shape
    ax.imshow(image, extent=(-0.5, width - 0.5, height - 0.5, -0.5))
    ax.contour(truth.astype(float), levels=[0.5], colors="red", linewidths=0.9)


def _pixels(material: Material, pixels: Tensor) -> np.ndarray:
    return material.loaded.picture(pixels).cpu().numpy()


def _words(
    pairs: Pairs, row: int, material: Material | None = None, ids: Tensor | None = None
) -> tuple[list[str], np.ndarray]:
    """The words of a caption without special tokens, and where they stand."""
    words: Sequence[str] = pairs.tokens[row]
    if material is not None and ids is not None and material.loaded.tokens is not None:
        words = material.loaded.tokens(ids[row].cpu())
    valid = pairs.valid[row]
    return [word for word, real in zip(words, valid, strict=True) if real], valid


def _write(ax: Axes, words: Sequence[str]) -> None:
    lines = lines_of(" ".join(words), 26)
    ax.text(0.5, 1.0, lines, ha="center", va="top", fontsize=6, transform=ax.transAxes)
