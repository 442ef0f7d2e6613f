"""μFidelity: does the attribution of a random part say what removing it costs?"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from quantus.helpers.enums import EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_ib.checks import require_choice
from captum_ib.metrics.base import Samples, TorchMetric, constant, pixel_maps, require_both
from captum_ib.metrics.fills import Numbers, black
from captum_ib.metrics.scorer import Activation, Scorer, require_activation


class MuFidelity(TorchMetric):
    """corr over random S of Σ_S a and f(x) − f(x without S), in [−1, 1]; higher is better.

    Bhatt et al., IJCAI 2020, eq. 1, on cells of a grid as in Fel et al. (NeurIPS 2021). All samples
    see the same subsets, drawn from ``seed``, so no score depends on the batch. A linear model
    explained by its own terms scores 1.

    ``quantus.FaithfulnessCorrelation`` draws single values out of all channels, of which a subset
    small enough to stay a picture changes nothing.

    Args:
        grid: cells along a side (9).
        share: of the cells that a subset removes (0.2); at least one, and not all.
        draws: subsets (200).
        correlation: ``"pearson"``, as Bhatt et al., or ``"spearman"``, as Fel et al.
        seed: of the subsets.
        mean: per-channel mean that preprocessing subtracted; with ``std``, it tells what black is.
        std: per-channel standard deviation that preprocessing divided by.
        baseline: what removed pixels become instead of black, in units of the model's input.
        modality: for a dual encoder, which of its modalities the images are (its first).
        activation: how a classifier's outputs become probabilities; see ``Insertion``. Call with
            ``softmax=False`` for the logits that the paper uses.
        kwargs: see ``TorchMetric``.

    Raises:
        ValueError: a setting out of range; images with negative values and nothing that says what
            black is; a map that gives all subsets the same sum, or a score that no subset moves
            (see ``undefined``).
    """

    name = "μFidelity"
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.FAITHFULNESS

    def __init__(
        self,
        *,
        grid: int = 9,
        share: float = 0.2,
        draws: int = 200,
        correlation: Literal["pearson", "spearman"] = "pearson",
        seed: int = 0,
        mean: Numbers = None,
        std: Numbers = None,
        baseline: Numbers = None,
        modality: str | None = None,
        activation: Activation | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_both(mean, std)
        require_choice("correlation", correlation, ("pearson", "spearman"))
        if grid < 2 or draws < 3 or not 0 < share < 1:
            raise ValueError(
                "needs a grid of at least 2 cells a side, at least 3 draws and a share within 0 "
                f"and 1; given {grid}, {draws} and {share:g}"
            )
        self.grid, self.share, self.draws, self.seed = grid, share, draws, seed
        self.correlation, self.modality = correlation, modality
        self.mean, self.std, self.baseline = mean, std, baseline
        self.activation: Activation | None = require_activation(activation)

    def subsets(self, height: int, width: int) -> Tensor:
        """``(draws, H, W)`` bool: the pixels that each subset removes."""
        rows, columns = ((torch.arange(length) * self.grid) // length for length in (height, width))
        if min(height, width) < self.grid:
            raise ValueError(f"a grid of {self.grid} cells a side needs as many pixels a side")
        cells = self.grid**2
        count = min(cells - 1, max(1, round(self.share * cells)))
        noise = torch.rand(self.draws, cells, generator=torch.Generator().manual_seed(self.seed))
        gone = torch.zeros(self.draws, cells, dtype=torch.bool)
        gone.scatter_(1, noise.topk(count, 1).indices, True)
        return gone[:, rows[:, None] * self.grid + columns]

    def _evaluate(self, samples: Samples) -> list[float]:
        maps = pixel_maps(samples.a, samples.x, self.name)
        scorer = Scorer(samples.model, samples.y, self.modality, activation=self.activation)
        images = scorer.input(samples.x)
        empty = black(images, self.mean, self.std, self.baseline, self.name)
        gone = self.subsets(*maps.shape[1:])
        sums = maps.flatten(1) @ gone.flatten(1).double().T
        scores = [scorer(torch.where(one.to(images.device), empty, images)) for one in gone]
        falls = (scorer(images)[:, None] - torch.stack(scores, 1)).double().cpu()
        flat = constant(maps)
        still = falls.amax(1) - falls.amin(1) <= 1e-12
        self._undefined(flat, "a constant attribution")
        self._undefined(still, "a score that no subset moves")
        if self.correlation == "spearman":
            sums, falls = ranks(sums), ranks(falls)
        return pearson(sums, falls).masked_fill(flat | still, torch.nan).tolist()


def pearson(one: Tensor, other: Tensor) -> Tensor:
    """Pearson's correlation of the rows of ``(N, P)``; NaN where a row is constant."""
    one, other = one - one.mean(1, keepdim=True), other - other.mean(1, keepdim=True)
    return (one * other).sum(1) / (one.norm(dim=1) * other.norm(dim=1))


def ranks(values: Tensor) -> Tensor:
    """Ranks within each row of ``(N, P)``, float64; ties share the mean of theirs.

    >>> ranks(torch.tensor([[3.0, 1.0, 1.0]])).tolist()
    [[2.0, 0.5, 0.5]]
    """
    result = []
    for row in values.numpy():
        _, place, count = np.unique(row, return_inverse=True, return_counts=True)
        result.append((np.cumsum(count) - (count + 1) / 2)[place.reshape(row.shape)])
    return torch.from_numpy(np.stack(result))
