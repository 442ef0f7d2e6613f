"""How far the maps of different layers (or methods) agree: SSIM, linear CKA, and who wins where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ib.metrics.plots import COLOURS, drawn
from captum_ib.metrics.selection import min_max

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray | Tensor


def ssim(first: Array, second: Array, *, window: int = 7, data_range: float = 1.0) -> Tensor:
    """Structural similarity (Wang et al., IEEE TIP 2004, eq. 13) of pairs of maps.

    Uniform window, sample (co)variances, mean over the windows that lie inside the map; K₁ = 0.01,
    K₂ = 0.03. These are the defaults of ``skimage.metrics.structural_similarity``.

    Args:
        first: ``(N, H, W)``.
        second: ``(N, H, W)``.
        window: odd side of the window in pixels, at most the smaller side of the maps.
        data_range: the span of possible values; 1 for maps scaled to [0, 1].

    Returns:
        ``(N,)`` float64, 1 for equal maps, at least −1.

    Raises:
        ValueError: maps of other or different shapes, NaN, an even or too large window.

    >>> x = torch.linspace(0, 1, 64).view(1, 8, 8)
    >>> ssim(x, x)
    tensor([1.], dtype=torch.float64)
    """
    one, two = _maps(first, "first"), _maps(second, "second")
    if one.shape != two.shape:
        raise ValueError(f"maps differ in shape: {tuple(one.shape)} and {tuple(two.shape)}")
    if window < 1 or window % 2 == 0 or window > min(one.shape[1:]):
        raise ValueError(
            f"window must be odd and at most the maps' smaller side ({min(one.shape[1:])}), "
            f"given {window}; upsample small maps or take a smaller window"
        )
    if window == 1 or data_range <= 0:
        raise ValueError("SSIM needs a window of at least 3 pixels and a data_range above 0")
    mean_1, mean_2 = _local_mean(one, window), _local_mean(two, window)
    unbias = window**2 / (window**2 - 1)
    var_1 = unbias * (_local_mean(one * one, window) - mean_1**2)
    var_2 = unbias * (_local_mean(two * two, window) - mean_2**2)
    covariance = unbias * (_local_mean(one * two, window) - mean_1 * mean_2)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_1**2 + mean_2**2 + c1) * (var_1 + var_2 + c2))
    return similarity.mean((1, 2))


def linear_cka(first: Array, second: Array) -> float:
    """Linear centred kernel alignment (Kornblith et al., ICML 2019, eq. 4 with linear kernels).

    ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) in Frobenius norms, X and Y centred over the samples: invariant to
    rotation and isotropic scaling of either side.

    Args:
        first: ``(N, …)``, one row per sample.
        second: ``(N, …)``, the same samples; its other sizes may differ.

    Returns:
        A number in [0, 1]; NaN where one side is the same for all samples.

    Raises:
        ValueError: fewer than two samples, different numbers of samples, NaN.

    >>> x = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    >>> round(linear_cka(x, 3 * x), 6)
    1.0
    """
    one, two = _finite(first, "first").flatten(1), _finite(second, "second").flatten(1)
    if len(one) != len(two) or len(one) < 2:
        raise ValueError(
            f"CKA compares two or more samples on both sides; given {len(one)} and {len(two)}"
        )
    one, two = one - one.mean(0), two - two.mean(0)
    # Gram matrices over samples: N×N instead of P×P, and ‖YᵀX‖² = Σ (XXᵀ ∘ YYᵀ).
    gram_1, gram_2 = one @ one.T, two @ two.T
    scale = gram_1.norm() * gram_2.norm()
    return float((gram_1 * gram_2).sum() / scale) if scale > 0 else float("nan")


@dataclass(frozen=True)
class LayerAgreement:
    """Pairwise agreement of L layers (CoIBA, Hong et al., CVPR 2025, Fig. 10b).

    Attributes:
        names: the L layers.
        ssim: ``(L, L)``, SSIM between min–max-scaled maps, mean over samples with neither constant.
        cka: ``(L, L)``, linear CKA over the samples.
    """

    names: tuple[str, ...]
    ssim: np.ndarray
    cka: np.ndarray

    def plot(self, path: str | Path | None = None, kind: Literal["ssim", "cka"] = "ssim") -> Figure:
        """Heat map of one of the two matrices; returns the matplotlib figure."""
        matrix = {"ssim": self.ssim, "cka": self.cka}[kind]
        side = 1.4 + 0.28 * len(self.names)
        with drawn(side + 0.6, side, path) as (figure, axes):
            image = axes.imshow(matrix, vmin=min(0.0, np.nanmin(matrix)), vmax=1, cmap="viridis")
            ticks = range(len(self.names))
            axes.set_xticks(ticks, self.names, rotation=90)
            axes.set_yticks(ticks, self.names)
            figure.colorbar(image, label={"ssim": "SSIM", "cka": "linear CKA"}[kind])
        return figure


def layer_agreement(maps: Mapping[str, Array], *, window: int = 7) -> LayerAgreement:
    """SSIM and linear CKA between the maps that different layers give for the same samples.

    Args:
        maps: layer name → ``(N, H, W)`` or ``(N, 1, H, W)``, all of one shape (upsample first).
        window: SSIM's window in pixels.

    Returns:
        The two matrices; SSIM's entry is NaN where no sample has both maps non-constant.

    Raises:
        ValueError: fewer than two layers; shapes that differ; NaN.
    """
    if len(maps) < 2:
        raise ValueError(f"agreement needs at least two layers, given {list(maps)}")
    raw = {name: _maps(values, name) for name, values in maps.items()}
    scaled = {name: min_max(values) for name, values in raw.items()}
    names, size = tuple(raw), len(raw)
    similarity, alignment = np.ones((size, size)), np.ones((size, size))
    for i, one in enumerate(names):
        for j, two in enumerate(names[: i + 1]):
            both = ~(scaled[one].isnan() | scaled[two].isnan()).flatten(1).any(1)
            mean = float("nan")
            if bool(both.any()):
                mean = float(ssim(scaled[one][both], scaled[two][both], window=window).mean())
            similarity[i, j] = similarity[j, i] = mean
            alignment[i, j] = alignment[j, i] = linear_cka(raw[one], raw[two])
    return LayerAgreement(names, similarity, alignment)


@dataclass(frozen=True)
class LayerWinners:
    """Which layer's map scores best per sample (CoIBA, Fig. 1).

    Attributes:
        names: the L layers.
        winner: ``(N,)`` index of the best layer; −1 where no layer has a score.
        share: ``(L,)`` share of the samples with a winner that each layer wins.
    """

    names: tuple[str, ...]
    winner: np.ndarray
    share: np.ndarray

    def plot(self, path: str | Path | None = None) -> Figure:
        """Bar chart of the shares; returns the matplotlib figure."""
        with drawn(3.3, 2.2, path) as (figure, axes):
            axes.bar(range(len(self.names)), 100 * self.share, color=COLOURS[0], width=0.7)
            axes.set_xticks(range(len(self.names)), self.names, rotation=90)
            axes.set_ylabel("samples won (%)")
        return figure


def layer_winners(scores: Mapping[str, Array], *, higher_is_better: bool = True) -> LayerWinners:
    """Which layer wins per sample; ties go to the layer that comes first.

    Args:
        scores: layer name → ``(N,)`` scores of any metric, NaN where it has none.
        higher_is_better: the metric's direction.

    Raises:
        ValueError: no layers, or scores that are not one row of equal length per layer.

    >>> layer_winners({"early": np.array([1.0, 5.0]), "late": np.array([2.0, 3.0])}).winner
    array([1, 0])
    """
    rows = [np.asarray(values, dtype=float) for values in scores.values()]
    if not rows or any(row.ndim != 1 or len(row) != len(rows[0]) for row in rows):
        raise ValueError(
            "give one score per sample and layer, the same samples for every layer; given shapes "
            f"{ {name: np.shape(values) for name, values in scores.items()} }"
        )
    table = np.stack(rows) * (1 if higher_is_better else -1)
    table = np.where(np.isnan(table), -np.inf, table)
    winner = np.where(np.isneginf(table).all(0), -1, table.argmax(0))
    counts = np.bincount(winner[winner >= 0], minlength=len(rows)).astype(float)
    share = counts / counts.sum() if counts.sum() else np.full(len(rows), np.nan)
    return LayerWinners(tuple(scores), winner, share)


def _finite(values: Array, name: str) -> Tensor:
    tensor = torch.as_tensor(values).detach().cpu().double()
    if not bool(torch.isfinite(tensor).all()):
        raise ValueError(f"{name!r} holds NaN or infinity")
    return tensor


def _maps(values: Array, name: str) -> Tensor:
    tensor = _finite(values, name)
    if tensor.ndim == 4 and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    if tensor.ndim != 3:
        raise ValueError(f"{name!r} has shape {tuple(tensor.shape)}; expected maps (N, H, W)")
    return tensor


def _local_mean(values: Tensor, window: int) -> Tensor:
    return F.avg_pool2d(values[:, None], window, stride=1)[:, 0]
