"""Run all FunnyBirds protocols on one model and one explanation, and sum them up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor, nn

from captum_ib.metrics.funnybirds import protocols
from captum_ib.metrics.funnybirds.data import PARTS, Bird, FunnyBirds
from captum_ib.metrics.funnybirds.importance import Importance, importance, part_weights
from captum_ib.metrics.funnybirds.protocols import THRESHOLDS, Study
from captum_ib.metrics.funnybirds.radar import plot_radar
from captum_ib.metrics.funnybirds.responses import Asked, Change, Responses, without

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ("accuracy", "background_independence", "csdc", "pc", "dc", "d", "sd", "ts")


@dataclass(frozen=True)
class FunnyBirdsScores:
    """Every score in [0, 1], higher is better; NaN where no sample of the data counts for it.

    Attributes:
        accuracy: top-1 accuracy of the model.
        background_independence: share of background objects that the model ignores.
        csdc: controlled synthetic data check at ``threshold``.
        pc: preservation check at ``threshold``.
        dc: deletion check at ``threshold``.
        d: distractibility at ``threshold``.
        sd: single deletion.
        ts: target sensitivity.
        threshold: t*, the threshold that maximises (csdc + pc + dc)/3 + d.
        curves: csdc, pc, dc and d for all 80 thresholds of ``THRESHOLDS``.
    """

    accuracy: float
    background_independence: float
    csdc: float
    pc: float
    dc: float
    d: float
    sd: float
    ts: float
    threshold: float
    curves: dict[str, np.ndarray]

    @property
    def completeness(self) -> float:
        """((csdc + pc + dc)/3 + d)/2."""
        return ((self.csdc + self.pc + self.dc) / 3 + self.d) / 2

    @property
    def correctness(self) -> float:
        """The single-deletion score."""
        return self.sd

    @property
    def contrastivity(self) -> float:
        """The target-sensitivity score."""
        return self.ts

    @property
    def total(self) -> float:
        """Mean of completeness, correctness and contrastivity."""
        return (self.completeness + self.correctness + self.contrastivity) / 3

    def as_dict(self) -> dict[str, float]:
        """All numbers by name, the sums too."""
        names = (*COLUMNS, "threshold", "completeness", "correctness", "contrastivity", "total")
        return {name: float(getattr(self, name)) for name in names}

    def plot(self, path: str | Path | None = None, label: str = "explanation") -> Figure:
        """Radar plot of these scores alone; see ``plot_radar`` for several."""
        return plot_radar({label: self}, path)


def evaluate_funnybirds(
    model: nn.Module,
    explain_func: Callable[..., np.ndarray],
    data: FunnyBirds | str | Path,
    *,
    compat: Literal["original"] | None = None,
    batch_size: int = 32,
    responses: Responses | None = None,
    device: str | None = None,
) -> FunnyBirdsScores:
    """The FunnyBirds protocols (Hesse, Schaub-Meyer, Roth, ICCV 2023) for one explanation.

    Args:
        model: pictures ``(N, 3, H, W)`` in [0, 1] → logits ``(N, classes)``, in evaluation mode.
            Resizing and normalising belong to it.
        explain_func: as Quantus calls it, ``(model=, inputs=, targets=, device=)`` → array
            ``(N, C, H, W)``, ``(N, 1, H, W)`` or ``(N, H, W)``;
            ``captum_ib.metrics.explain_func(method)`` makes one of any Captum method.
        data: the data set, or the folder that holds it.
        compat: ``"original"`` keeps three habits of the original code, to reproduce its numbers:
            (1) no minimal set is ever found for the last class, which so counts 0 in CSDC;
            (2) in TS a class without a valid pair falls back to its last overlapping pair or to
            the previous sample's pair; (3) the threshold t · Σ attribution turns negative with the
            sum. The default corrects them: minimal sets for every class, only valid pairs, t · |Σ|.
        batch_size: pictures per forward pass and per call of ``explain_func``.
        responses: the model's answers from an earlier call with the same model and data, to save
            computing them again.
        device: passed to ``explain_func``, which so knows where to compute.

    Raises:
        ValueError: maps that don't fit the pictures or aren't finite; logits that don't fit the
            classes; ``compat`` other than None or "original"; ``responses`` of another model.
        RuntimeError: the model is in training mode.
    """
    if compat not in (None, "original"):
        raise ValueError(f'compat is None or "original", given {compat!r}')
    if model.training:
        raise RuntimeError("the model is in training mode; call model.eval() first")
    if not isinstance(data, FunnyBirds):
        data = FunnyBirds(data)
    if responses is None:
        responses = Responses(data, model, batch_size)
    elif responses.model is not model:
        raise ValueError("responses hold the answers of another model; leave them out")
    responses.fetch(_always_needed(data))
    maps = _Maps(data, model, explain_func, batch_size, device)
    study = Study(data, responses, maps.answer, original=compat == "original")
    maps.fetch(_targets(study))
    return _sum_up(study)


def _always_needed(data: FunnyBirds) -> Iterator[tuple[Bird, Change]]:
    for bird in data.birds:
        yield bird, None
        for part in PARTS:
            yield bird, without(part)
        for number in range(bird.n_objects):
            yield bird, number


def _targets(study: Study) -> list[tuple[Bird, int]]:
    """Every (picture, class) whose map some protocol asks for, save rare fallbacks."""
    wanted = []
    for bird in study.data.birds:
        wanted += [(bird, bird.target), (bird, study.responses.predicted(bird))]
        pair = protocols.contrasting_classes(study.data, bird.target, study.original)
        wanted += [(bird, number) for number, _ in pair or ()]
    return wanted


class _Maps(Asked[int, Importance]):
    """Importances per picture and target."""

    def __init__(
        self,
        data: FunnyBirds,
        model: nn.Module,
        explain_func: Callable[..., np.ndarray],
        batch_size: int,
        device: str | None,
    ) -> None:
        super().__init__(batch_size)
        self._data, self._model, self._explain = data, model, explain_func
        self._kwargs = {} if device is None else {"device": device}
        self._weights: dict[int, dict] = {}

    def _ask(self, chunk: Sequence[tuple[Bird, int]]) -> list[Importance]:
        found = zip(chunk, self._attribute(chunk), strict=True)
        return [importance(attribution, self._weight(bird)) for (bird, _), attribution in found]

    def _attribute(self, chunk: Sequence[tuple[Bird, int]]) -> Tensor:
        pictures = torch.stack([self._data.image(bird) for bird, _ in chunk]).numpy()
        targets = np.array([target for _, target in chunk])
        maps = self._explain(model=self._model, inputs=pictures, targets=targets, **self._kwargs)
        maps = torch.as_tensor(maps)
        if maps.ndim not in (3, 4) or len(maps) != len(chunk):
            raise ValueError(
                f"explain_func returned {tuple(maps.shape)} for {len(chunk)} pictures; expected "
                "(N, C, H, W), (N, 1, H, W) or (N, H, W)"
            )
        return maps

    def _weight(self, bird: Bird) -> dict:
        if bird.index not in self._weights:
            self._weights[bird.index] = part_weights(
                self._data.part_map(bird), self._data.colours(bird)
            )
        return self._weights[bird.index]


def _sum_up(study: Study) -> FunnyBirdsScores:
    curves = {
        "csdc": protocols.controlled_synthetic_data_check(study),
        "pc": protocols.preservation_check(study),
        "dc": protocols.deletion_check(study),
        "d": protocols.distractibility(study),
    }
    quality = (curves["csdc"] + curves["pc"] + curves["dc"]) / 3 + curves["d"]
    best = 0 if np.isnan(quality).all() else int(np.nanargmax(quality))
    return FunnyBirdsScores(
        accuracy=protocols.accuracy(study),
        background_independence=protocols.background_independence(study),
        **{name: float(curve[best]) for name, curve in curves.items()},
        sd=protocols.single_deletion(study),
        ts=protocols.target_sensitivity(study),
        threshold=float(THRESHOLDS[best]),
        curves=curves,
    )
