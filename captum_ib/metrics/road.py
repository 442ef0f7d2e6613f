"""Quantus' ROAD for images of several channels, for more than one batch, and in both orders."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import quantus
from quantus.helpers.enums import ScoreDirection
from quantus.helpers.model.model_interface import ModelInterface

from captum_ib.checks import require_choice
from captum_ib.metrics.base import pixel_maps

Order = Literal["morf", "lerf"]


class ROAD(quantus.ROAD):  # pyright: ignore[reportGeneralTypeIssues]  # final, in name only
    """Remove and debias (Rong et al., ICML 2022) as ``quantus.ROAD`` computes it.

    The accuracy left when a percentage of the pixels is imputed from their neighbours: the most
    relevant first (MoRF; lower is better), or the least relevant first (LeRF; higher is better).
    ΔROAD of CoIBA's Table 2 is LeRF − MoRF, in the benchmark ``road_delta``.

    All other arguments and the result are Quantus'. Two things of Quantus 0.6 are mended: there, a
    map of one value per pixel is repeated over the channels and its flat indices are taken for
    pixels, which is an IndexError for RGB images; and only the first batch counts.

    Args:
        order: ``"morf"`` (Quantus') or ``"lerf"``.
        kwargs: those of ``quantus.ROAD``.

    Raises:
        ValueError: another order.

    >>> import numpy as np, torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2)).eval()
    >>> x = np.random.default_rng(0).random((4, 3, 4, 4)).astype("float32")
    >>> road = ROAD(percentages=[25, 50], disable_warnings=True)
    >>> scores = road(model, x, np.zeros(4, int), a_batch=x.sum(1, keepdims=True))
    >>> sorted(scores)
    [25, 50]
    """

    def __init__(self, *args: Any, order: Order = "morf", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        require_choice("order", order, ("morf", "lerf"))
        self.order: Order = order
        if order == "lerf":
            # Quantus declares it for the class, and reads it from the object.
            self.score_direction = ScoreDirection.HIGHER  # pyright: ignore[reportAttributeAccessIssue]

    def custom_batch_preprocess(self, a_batch: np.ndarray, **kwargs: Any) -> None:
        """A percentage is one of the pixels, not of all channels' values."""
        self.a_size = int(np.prod(a_batch.shape[2:]))

    def evaluate_batch(
        self,
        model: ModelInterface,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        a_batch: np.ndarray,
        **kwargs: Any,
    ) -> Any:
        """Scores of one batch; called by Quantus."""
        maps = pixel_maps(a_batch, x_batch, self.name).numpy()[:, None]
        if self.order == "lerf":
            maps = -maps
        # Pixel order in the first channel, nothing of interest in the others: now the flat indices
        # of the best values are pixel indices.
        rest = np.full((len(maps), x_batch.shape[1] - 1, *maps.shape[2:]), maps.min() - 1)
        ordered = np.concatenate([maps, rest], axis=1)
        return super().evaluate_batch(
            model=model, x_batch=x_batch, y_batch=y_batch, a_batch=ordered
        )

    def custom_postprocess(self, **kwargs: Any) -> None:
        """Accuracy over all samples, not over the first batch only."""
        # Quantus 0.6 gives one table per batch, 0.5 one row per sample.
        rows = [np.atleast_2d(np.asarray(entry, dtype=float)) for entry in self.evaluation_scores]
        kept = np.concatenate(rows).mean(0).tolist()
        self.evaluation_scores = dict(zip(self.percentages, kept, strict=True))
