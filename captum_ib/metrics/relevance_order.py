"""Pixels removed most or least relevant first: MoRF, LeRF, and the gain between the two (SRG)."""

from __future__ import annotations

from typing import Any

import torch
from quantus.helpers.enums import ScoreDirection
from torch import Tensor

from captum_ib.checks import require_choice
from captum_ib.metrics.fills import Fill
from captum_ib.metrics.insertion_deletion import PerturbationCurve


class RemovalCurve(PerturbationCurve):
    """What MoRF, LeRF and SRG share: the score while pixels are replaced, step by step.

    Pixel flipping (Samek et al., TNNLS 2017; LibraGrad calls the two orders MIF and LIF). Where
    removing the least relevant pixels first is asked for, ties stay longest in reading order.

    Args:
        fill: what removed pixels become: ``"black"`` in pixel space (or ``baseline``), ``"mean"``,
            the sample's own mean per channel, or ``"blur"``, the blurred picture that Insertion
            starts from. Which of two methods leads may depend on it (Blücher et al., TMLR 2024).
        kwargs: see ``PerturbationCurve``: steps, mean, std, baseline, activation, …

    Raises:
        ValueError: another ``fill``, or ``baseline`` with a fill that is not black; see
            ``PerturbationCurve``.
    """

    def __init__(self, *, fill: Fill = "black", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_choice("fill", fill, ("black", "mean", "blur"))
        if fill != "black" and self.baseline is not None:
            raise ValueError(f"baseline= takes the place of black; fill={fill!r} has no use for it")
        self.fill = fill

    def _filled(self, images: Tensor) -> Tensor:
        if self.fill == "blur":
            return self._blurred(images)
        if self.fill == "mean":
            return images.mean((2, 3), keepdim=True).expand_as(images)
        return self._black(images)


class MoRF(RemovalCurve):
    """Area under the score while the most relevant pixels go first, ×100; lower is better.

    With black as fill this is Deletion. Arguments: see ``RemovalCurve``.
    """

    name = "MoRF"
    score_direction = ScoreDirection.LOWER

    def _ends(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(images, self._filled(images))]


class LeRF(RemovalCurve):
    """Area under the score while the least relevant pixels go first, ×100; higher is better.

    Arguments: see ``RemovalCurve``. The walk is done from its end: removing the least relevant
    first is adding the most relevant first, read backwards.

    >>> import numpy as np, torch
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2)).eval()
    >>> x = np.random.default_rng(0).random((3, 1, 4, 4)).astype("float32")
    >>> metric = LeRF(steps=4)
    >>> scores = metric(model, x, np.array([0, 1, 0]), a_batch=x)
    >>> len(scores), metric.curves.shape
    (3, (3, 5))
    """

    name = "LeRF"
    score_direction = ScoreDirection.HIGHER

    def _ends(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(self._filled(images), images)]

    def _result(self, curves: list[Tensor], areas: list[Tensor]) -> tuple[Tensor, Tensor]:
        return curves[0].flip(1), areas[0]


class SRG(RemovalCurve):
    """Symmetric relevance gain, LeRF − MoRF (Blücher et al., TMLR 2024); higher is better.

    The score of the unchanged and of the empty picture cancels, so a random order has the
    expectation 0 with any fill. Arguments: see ``RemovalCurve``; with ``return_curves=True`` a
    sample's curve is the difference of the two.
    """

    name = "SRG"
    score_direction = ScoreDirection.HIGHER

    def _ends(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        filled = self._filled(images)
        return [(filled, images), (images, filled)]

    def _result(self, curves: list[Tensor], areas: list[Tensor]) -> tuple[Tensor, Tensor]:
        return torch.sub(curves[0].flip(1), curves[1]), areas[0] - areas[1]
