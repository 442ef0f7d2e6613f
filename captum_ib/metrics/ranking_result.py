"""The result of a ranking: scores per candidate and sample, as a table and as a plot."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from captum_ib.metrics.agreement import LayerAgreement, layer_winners
from captum_ib.metrics.plots import COLOURS, drawn

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class LayerRanking:
    """What a ranking found for L candidates on N samples.

    Attributes:
        method: the method's name.
        names: the candidates.
        layers: for each, what to pass to the method's constructor.
        scores: ``(L, N)``; higher is better; NaN where a map was constant.
        maps: ``(L, N, …)``, the maps that were scored.
        deltas: ``(L, N)``, NIB's convergence delta in units of the output; ``None`` otherwise.
        agreement: SSIM and CKA between the candidates' maps; ``None`` for maps that are no images,
            a single candidate or a single sample.
    """

    method: str
    names: tuple[str, ...]
    layers: tuple[Any, ...]
    scores: np.ndarray
    maps: Tensor
    deltas: np.ndarray | None = None
    agreement: LayerAgreement | None = None

    @property
    def means(self) -> np.ndarray:
        """``(L,)``: mean score of each candidate over the samples that have one."""
        return np.array([np.nan if np.isnan(row).all() else np.nanmean(row) for row in self.scores])

    @property
    def best(self) -> Any:
        """The layers with the highest mean score, to be passed to the method's constructor."""
        return self.layers[int(np.nanargmax(self.means))]

    def difference(self, name: str, reference: str) -> tuple[float, float]:
        """Mean paired difference of two candidates' scores, and its standard error.

        Raises:
            ValueError: an unknown name.
        """
        for given in (name, reference):
            if given not in self.names:
                raise ValueError(f"unknown candidate {given!r}, expected one of {self.names}")
        rows = self.scores[self.names.index(name)] - self.scores[self.names.index(reference)]
        rows = rows[~np.isnan(rows)]
        error = rows.std(ddof=1) / np.sqrt(len(rows)) if len(rows) > 1 else np.nan
        return float(rows.mean()) if len(rows) else np.nan, float(error)

    def table(self, reference: str | None = None) -> str:
        """The ranking as a Markdown table.

        Args:
            reference: the candidate that the others are compared with; default: the best.
        """
        reference = reference or self.names[int(np.nanargmax(self.means))]
        head = ["layers", "score", f"− {reference}", "samples won"]
        if self.agreement is not None:
            head.append("SSIM to others")
        if self.deltas is not None:
            head.append("mean abs. delta")
        winners = layer_winners(dict(zip(self.names, self.scores, strict=True)))
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for index, name in enumerate(self.names):
            mean, error = self.difference(name, reference)
            cells = [name, f"{self.means[index]:.2f}"]
            cells.append("" if name == reference else f"{mean:+.2f} ± {error:.2f}")
            cells.append(f"{100 * winners.share[index]:.0f} %")
            if self.agreement is not None:
                others = np.delete(self.agreement.ssim[index], index)
                cells.append(f"{np.nanmean(others):.2f}")
            if self.deltas is not None:
                cells.append(f"{np.abs(self.deltas[index]).mean():.2g}")
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def plot(self, path: str | Path | None = None, ylabel: str = "score") -> Figure:
        """Mean score per candidate with one standard error; returns the matplotlib figure."""
        scored = [row[~np.isnan(row)] for row in self.scores]
        errors = [r.std(ddof=1) / np.sqrt(len(r)) if len(r) > 1 else 0.0 for r in scored]
        with drawn(3.3, 2.4, path) as (figure, axes):
            axes.errorbar(range(len(self.names)), self.means, errors, color=COLOURS[0], marker="o")
            axes.set_xticks(range(len(self.names)), self.names, rotation=90)
            axes.set_ylabel(ylabel)
            axes.set_title(self.method)
        return figure
