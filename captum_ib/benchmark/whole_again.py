"""Metrics over the whole set that explain again: grids of samples, and other captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from captum_ib.benchmark.config import MethodConfig, MetricConfig
from captum_ib.benchmark.explainers import Explainer, Floor
from captum_ib.benchmark.reader import Logits
from captum_ib.benchmark.store import RunFolder
from captum_ib.benchmark.subjects import Pairs, Subjects
from captum_ib.benchmark.worker import Worker
from captum_ib.metrics.pointing import cell_masks, chosen_cells, grid_picture
from captum_ib.metrics.prompts import CHANGES, Change, changed_captions, map_change, permutation_p

Scores = dict[str, float | None]
Grid = tuple[Sequence[Subjects], torch.Tensor]
"""The samples of the cells in reading order, and their picture ``(1, 3, H, W)``."""


class Grids:
    """The Grid Pointing Game on grids of the run's confident samples; the mean over all cells.

    A classifier's sample is confident by its class's probability where that is the likeliest class;
    a pair by its cosine.
    """

    def __init__(self, worker: Worker, folder: RunFolder, column: MetricConfig) -> None:
        self._column, self._worker = column, worker
        self._side = column.settings.get("side", 2)
        dual = worker.loaded.kind == "dual"
        self._least = column.settings.get("least", -1.0 if dual else 0.5)
        self._made: list[Grid] = []

    def __call__(self, line: MethodConfig, explainer: Explainer | Floor, seed: int) -> Scores:
        """The mean score of a method with a seed over all cells of all grids.

        Raises:
            ValueError: fewer confident samples of different classes than a grid has cells, or
                fewer than two cells along a side.
        """
        self._made = self._made or self._grids()
        shares = []
        for row, picture in self._made:
            size = tuple(picture.shape[2:])
            for subject, mask in zip(row, cell_masks(size, self._side)[:, 0], strict=True):
                a = explainer(subject.with_pixels(picture), seed).at(size)[0, 0]
                positive = np.clip(a, 0, None, dtype=np.float64)
                if positive.sum() > 0:
                    shares.append((positive * mask).sum() / positive.sum())
        return {self._column.label: float(np.mean(shares)) if shares else None}

    def _grids(self) -> list[Grid]:
        """The samples of each grid, and its picture."""
        if self._side < 2:
            raise ValueError(f"a grid has at least 2 cells along a side, given {self._side}")
        subjects = list(singles(self._worker))
        if len({subject.pixels.shape for subject in subjects}) > 1:
            raise ValueError("grids need pictures that the model sees at one size")
        confidence = np.array([confidence_of(self._worker, subject) for subject in subjects])
        asked = [subject.question[0].cpu().numpy() for subject in subjects]
        places = chosen_cells(asked, confidence, self._side**2, self._least)
        rows = [[subjects[place] for place in row] for row in places]
        return [(row, self._picture(row)) for row in rows]

    def _picture(self, row: Sequence[Subjects]) -> torch.Tensor:
        pixels = torch.cat([subject.pixels for subject in row])
        grid = grid_picture(pixels.float().cpu().numpy(), self._side)
        return torch.from_numpy(grid)[None].to(pixels.device, pixels.dtype)


class Prompts:
    """Prompt sensitivity of all pairs, with each kind of change and the null distribution.

    The other caption of a pair is the next one in the data that differs; gibberish is drawn from
    the words of the run's captions. Null draws are maps with the same caption and other seeds; p is
    how often their means over the pairs reach the score.
    """

    def __init__(self, worker: Worker, folder: RunFolder, column: MetricConfig) -> None:
        self._column = column
        self._null, self._seed = column.settings.get("null", 4), column.settings.get("seed", 0)
        self._pairs = [subject for subject in singles(worker) if isinstance(subject, Pairs)]
        words = {int(token) for pair in self._pairs for token in _words(pair)}
        self._vocabulary = sorted(words)

    def __call__(self, line: MethodConfig, explainer: Explainer | Floor, seed: int) -> Scores:
        """The scores of a method with a seed.

        Raises:
            ValueError: a negative number of null draws.
        """
        if self._null < 0:
            raise ValueError(f"null is a number of draws, given {self._null}")
        changes: dict[str, list[float]] = {change: [] for change in CHANGES}
        null = np.full((len(self._pairs), self._null), np.nan)
        for number, pair in enumerate(self._pairs):
            before = explainer(pair, seed).image.double()
            for change in CHANGES:
                other = self._changed(number, change)
                if other is not None:
                    changes[change].append(_change(before, explainer, other, seed))
            for draw in range(self._null):
                again = seed + 1 + draw
                same = not explainer.stochastic
                null[number, draw] = 0.0 if same else _change(before, explainer, pair, again)
        label = self._column.label
        means = {name: _mean(found) for name, found in changes.items()}
        score = means["other"]
        scores = {label: score, f"{label}:shuffled": means["shuffled"]}
        scores[f"{label}:gibberish"] = means["gibberish"]
        if self._null and score is not None:
            draws = np.nanmean(null, 0)
            scores[f"{label}:same_caption"] = float(draws.mean())
            scores[f"{label}:p_value"] = float(permutation_p(np.array([score]), draws[None])[0])
        return scores

    def _changed(self, number: int, change: Change) -> Pairs | None:
        """A pair with a changed caption; ``None`` where there is none that differs."""
        pair = self._pairs[number]
        if change == "other":
            turn = (*self._pairs[number + 1 :], *self._pairs[:number])
            others = (one for one in turn if not torch.equal(one.input_ids, pair.input_ids))
            other = next(others, None)
            if other is None:
                return None
            # Still the same sample: noise that a method draws for it must not change.
            return replace(other, pixels=pair.pixels, ids=pair.ids, indices=pair.indices)
        content = torch.from_numpy(pair.valid)
        ids = pair.input_ids.cpu()
        told = changed_captions(ids, content, change, self._seed, self._vocabulary)
        if torch.equal(told, ids):
            return None
        return replace(pair, input_ids=told.to(pair.input_ids.device))


def singles(worker: Worker) -> Iterator[Subjects]:
    """All samples that can be read, one by one, in order."""
    for chunk in range(worker.chunks):
        groups, _ = worker.read(worker.indices(chunk))
        found = [group.part([row]) for group in groups for row in range(len(group))]
        yield from sorted(found, key=lambda subject: subject.indices)


def confidence_of(worker: Worker, subject: Subjects) -> float:
    """How sure the model is of a sample: see :class:`Grids`."""
    with torch.no_grad():
        if isinstance(subject, Pairs):
            masks = () if subject.mask is None else (subject.mask,)
            return float(worker.model(subject.pixels, subject.input_ids, *masks))
        probabilities = Logits(worker.model)(subject.pixels)[0].softmax(0)
    target = int(subject.targets)
    return float(probabilities[target]) if int(probabilities.argmax()) == target else 0.0


def _words(pair: Pairs) -> np.ndarray:
    return pair.input_ids.cpu().numpy()[pair.valid]


def _change(before: torch.Tensor, explainer: Explainer | Floor, pair: Pairs, seed: int) -> float:
    """How far the map moves with another caption or seed; NaN for a constant one."""
    return float(map_change(before, explainer(pair, seed).image.double()))


def _mean(found: Sequence[float]) -> float | None:
    known = [value for value in found if not np.isnan(value)]
    return float(np.mean(known)) if known else None
