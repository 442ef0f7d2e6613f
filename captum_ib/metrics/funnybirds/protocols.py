"""The FunnyBirds protocols: each a function of what the model answers and what the maps say.

All take a ``Study``: the data, the model's answers, one importance per (picture, target). Where the
protocol depends on the threshold t, it returns one score per entry of ``THRESHOLDS``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.stats import rankdata

from captum_ib.metrics.funnybirds.data import PARTS, Bird, FunnyBirds
from captum_ib.metrics.funnybirds.importance import Importance, Key
from captum_ib.metrics.funnybirds.responses import Change, Responses, without

THRESHOLDS = np.linspace(0.01, 0.50, num=80)
_MATTERS = 0.05  # a change of the logit by this share counts as one


@dataclass
class Study:
    """One explanation of one model on FunnyBirds.

    Attributes:
        data: the data set.
        responses: the model's logits on pictures and interventions.
        importance: ``(bird, target) → Importance``.
        original: keep the three habits of the original code (see ``evaluate_funnybirds``).
    """

    data: FunnyBirds
    responses: Responses
    importance: Callable[[Bird, int], Importance]
    original: bool = False
    _relevant: dict[tuple[int, Key], bool] = field(default_factory=dict)

    def important(self, bird: Bird, target: int) -> list[frozenset[Key]]:
        """I_t for every threshold."""
        found = self.importance(bird, target)
        return [found.above(float(t), signed=self.original) for t in THRESHOLDS]

    def relevant(self, bird: Bird, key: Key) -> bool:
        """Whether removing ``key`` alone lowers the logit of the bird's class by 5 % or more."""
        change: Change = key if isinstance(key, int) else without(key)
        drop = self.responses.drop(bird, change, bird.target)
        return drop > 0 and drop >= _MATTERS * abs(float(self.responses.logits(bird)[bird.target]))


def accuracy(study: Study) -> float:
    """Share of pictures whose class has the largest logit."""
    return _mean([study.responses.predicted(bird) == bird.target for bird in study.data.birds])


def background_independence(study: Study) -> float:
    """Share of background objects that the model's logit does not depend on; no map is used."""
    return _mean(
        [
            not study.relevant(bird, number)
            for bird in study.data.birds
            for number in range(bird.n_objects)
        ]
    )


def controlled_synthetic_data_check(study: Study) -> np.ndarray:
    """CSDC per threshold: how much of a set of parts that defines the class is found important."""
    scores = []
    for bird in study.data.birds:
        if study.responses.predicted(bird) != bird.target:
            continue
        minimal = study.data.minimal_sets(bird.target)
        if study.original and bird.target == len(study.data.classes) - 1:
            minimal = []
        scores.append(
            [
                max((len(parts & found) / len(parts) for parts in minimal), default=0.0)
                for found in study.important(bird, bird.target)
            ]
        )
    return _mean_rows(scores)


def preservation_check(study: Study) -> np.ndarray:
    """PC per threshold: is the class still predicted when only the important parts stay?"""
    return 1 - _changed(study, lambda parts: parts)


def deletion_check(study: Study) -> np.ndarray:
    """DC per threshold: is another class predicted when the important parts go?"""
    return _changed(study, lambda parts: without(*parts))


def distractibility(study: Study) -> np.ndarray:
    """D per threshold: how many of the irrelevant parts and objects are not called important."""
    scores = []
    for bird in study.data.birds:
        keys: list[Key] = [*PARTS, *range(bird.n_objects)]
        irrelevant = {key for key in keys if not study.relevant(bird, key)}
        if irrelevant:
            found = study.important(bird, bird.target)
            scores.append([1 - len(keys & irrelevant) / len(irrelevant) for keys in found])
    return _mean_rows(scores)


def single_deletion(study: Study) -> float:
    """SD: rank correlation of what a part's removal costs with its importance, in [0, 1]."""
    scores = []
    for bird in study.data.birds:
        found = study.importance(bird, bird.target)
        drops = [study.responses.drop(bird, without(part), bird.target) for part in PARTS]
        rho = spearman(drops, [found.of[part] for part in PARTS])
        if not math.isnan(rho):
            scores.append((rho + 1) / 2)
    return _mean(scores)


def target_sensitivity(study: Study) -> float:
    """TS: do two other classes' maps each favour the parts that the picture shares with them?"""
    scores, pair = [], None
    for bird in study.data.birds:
        found = contrasting_classes(study.data, bird.target, study.original)
        # The original code keeps the previous sample's pair in its variables.
        pair = found or pair if study.original else found
        if pair is None:
            continue
        (a, a_parts), (b, b_parts) = pair
        no_a = study.responses.logits(bird, without(*a_parts))
        no_b = study.responses.logits(bird, without(*b_parts))
        if no_a[a] < no_b[a] and no_b[b] < no_a[b]:
            for_a, for_b = study.importance(bird, a), study.importance(bird, b)
            scores += [
                for_a.sum(a_parts) > for_b.sum(a_parts),
                for_b.sum(b_parts) > for_a.sum(b_parts),
            ]
    return _mean(scores)


Contrast = tuple[tuple[int, frozenset[str]], tuple[int, frozenset[str]]]


def contrasting_classes(data: FunnyBirds, target: int, original: bool = False) -> Contrast | None:
    """The first two classes that share exactly two parts each, and different ones, with ``target``.

    Returns:
        ``((a, parts shared with a), (b, parts shared with b))``, or None where there is no such
        pair. ``original=True``: then the last pair whose shared parts overlap, if there is one.
    """
    shared = {
        number: data.shared_parts(number, target)
        for number in range(len(data.classes))
        if number != target
    }
    near = [(number, parts) for number, parts in shared.items() if len(parts) == 2]
    pairs = [(one, other) for i, one in enumerate(near) for other in near[i + 1 :]]
    for one, other in pairs:
        if not one[1] & other[1]:
            return one, other
    return pairs[-1] if original and pairs else None


def spearman(first: list[float], second: list[float]) -> float:
    """Spearman's rank correlation with ties at their mean rank; NaN where one side is constant.

    >>> spearman([1.0, 2.0, 3.0], [10.0, 30.0, 20.0])
    0.5
    """
    one, two = _ranks(first), _ranks(second)
    spread = math.sqrt(float((one**2).sum() * (two**2).sum()))
    return float((one * two).sum()) / spread if spread > 0 else math.nan


def _ranks(values: list[float]) -> np.ndarray:
    """Centred ranks; equal values share the mean of their ranks."""
    ranks = rankdata(values)
    return ranks - ranks.mean()


def _changed(study: Study, kept: Callable[[frozenset[str]], frozenset[str]]) -> np.ndarray:
    """Per threshold, the share of pictures whose prediction changes if only ``kept(I_t)`` stays."""
    plan: list[tuple[Bird, list[frozenset[str]]]] = []
    for bird in study.data.birds:
        found = study.important(bird, study.responses.predicted(bird))
        plan.append((bird, [kept(frozenset(PARTS) & keys) for keys in found]))
    study.responses.fetch((bird, parts) for bird, stays in plan for parts in stays)
    rows = [
        [
            study.responses.predicted(bird, parts) != study.responses.predicted(bird)
            for parts in stays
        ]
        for bird, stays in plan
    ]
    return _mean_rows(rows)


def _mean(values: list) -> float:
    """The mean; NaN, without numpy's warning, where no sample counted."""
    return float(np.mean(values)) if values else math.nan


def _mean_rows(rows: list) -> np.ndarray:
    return (
        np.mean(np.asarray(rows, dtype=float), axis=0)
        if rows
        else np.full(len(THRESHOLDS), math.nan)
    )
