"""Prompt sensitivity: does the map of a pair change when the caption is another one?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from quantus.helpers.enums import EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_ib.checks import require_choice
from captum_ib.metrics.base import Samples, TorchMetric, constant, pixel_maps
from captum_ib.metrics.mu_fidelity import pearson, ranks
from captum_ib.metrics.scorer import is_dual, model_input, token_mask
from captum_ib.metrics.selection import content_tokens

Change = Literal["other", "shuffled", "gibberish"]
CHANGES: tuple[Change, ...] = ("other", "shuffled", "gibberish")


class PromptSensitivity(TorchMetric):
    """1 − ρ between the maps of an image with its caption and with a changed one; higher: reads it.

    ρ is Spearman's rank correlation over the pixels: 0 is the same map whatever the text says, 1 an
    unrelated one, 2 the inverse. The metric explains, so give ``explain_func``, not ``a_batch``;
    ``x_batch`` are images, ``y_batch`` ids of captions ``(N, T)``.

    A method that draws noise changes its map without another caption too. That is the null
    distribution: the changes of the map with the *same* caption under ``null`` other seeds. ``p``
    is how often these reach the score, (1 + #{null ≥ score}) / (1 + ``null``); for a method without
    noise (``null=0``) any change is the caption's.

    Args:
        change: ``"other"``, the caption of the next pair of the batch that has another one;
            ``"shuffled"``, its own words in another order; ``"gibberish"``, as many random words.
        special_tokens: ids that stay where they are (begin, end, padding).
        vocabulary: ids of words for ``"gibberish"``.
        pad_token: id of padding, for dual encoders that can't tell it from the ids themselves.
        null: how many other seeds; they are passed as the keyword ``seed`` of ``explain_func``.
        seed: of the shuffling, the random words, and (from ``seed + 1`` on) the null distribution.
        kwargs: see ``TorchMetric``.

    Attributes:
        null_scores: ``(N, null)``, the null distribution of the last call.
        p: ``(N,)``.

    Raises:
        TypeError: ``a_batch`` was given, or the model is no dual encoder.
        ValueError: a caption that can't be changed (no other one in the batch, fewer than two
            different words to shuffle), or a constant map (see ``undefined``).
    """

    name = "Prompt Sensitivity"
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.RANDOMISATION

    def __init__(
        self,
        *,
        change: Change = "other",
        special_tokens: Sequence[int],
        vocabulary: Sequence[int] | None = None,
        pad_token: int | None = None,
        null: int = 0,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_choice("change", change, CHANGES)
        if change == "gibberish" and not vocabulary:
            raise ValueError('change="gibberish" needs vocabulary=, the ids of words to draw from')
        if null < 0:
            raise ValueError(f"null is a number of seeds, given {null}")
        self.change: Change = change
        self.special_tokens, self.vocabulary, self.pad_token = special_tokens, vocabulary, pad_token
        self.null_draws, self.seed = null, seed
        self.null_scores, self.p = np.empty((0, null)), np.empty(0)

    def _begin(self) -> None:
        if self._given is not None:
            raise TypeError(f"{self.name} explains again: give explain_func=, not a_batch=")
        self.null_scores, self.p = np.empty((0, self.null_draws)), np.empty(0)

    def _evaluate(self, samples: Samples) -> list[float]:
        module = samples.model.get_model()
        if not is_dual(module):
            raise TypeError(f"{self.name} changes captions: it needs a dual encoder")
        ids = model_input(samples.y, module).cpu()
        valid = token_mask(module, "text", ids, self.pad_token)
        content = content_tokens(ids, self.special_tokens, valid)
        changed = changed_captions(ids, content, self.change, self.seed, self.vocabulary or ())
        same = (changed == ids).all(1)
        self._undefined(same, "a caption that can't be changed")
        before = pixel_maps(samples.a, samples.x, self.name)
        after = self._explained(samples, changed.numpy())
        flat = constant(before) | constant(after)
        self._undefined(flat, "a constant attribution")
        scores = map_change(before, after).masked_fill(same | flat, torch.nan).numpy()
        null = np.empty((len(scores), self.null_draws))
        for draw in range(self.null_draws):
            again = self._explained(samples, samples.y, seed=self.seed + 1 + draw)
            null[:, draw] = map_change(before, again).numpy()
        self.null_scores = np.concatenate([self.null_scores, null])
        self.p = np.concatenate([self.p, permutation_p(scores, null)])
        return scores.tolist()

    def _explained(self, samples: Samples, asked: np.ndarray, **more: Any) -> Tensor:
        """Maps ``(N, H, W)`` of the images with other captions."""
        given = {**(self.explain_func_kwargs or {}), **more}
        explain = cast(Any, self.explain_func)
        maps = explain(model=samples.model.get_model(), inputs=samples.x, targets=asked, **given)
        return pixel_maps(np.asarray(maps), samples.x, self.name)


def changed_captions(
    ids: Tensor, content: Tensor, change: Change, seed: int, vocabulary: Sequence[int]
) -> Tensor:
    """Captions as :class:`PromptSensitivity` changes them; one that can't be stays as it is.

    Args:
        ids: ``(N, T)``.
        content: ``(N, T)`` bool, the tokens that stand for words.
        change: see there.
        seed: of the drawing; a row does not depend on the rows beside it, but for ``"other"``.
        vocabulary: ids to draw from, for ``"gibberish"``.

    >>> ids = torch.tensor([[0, 5, 6, 1], [0, 7, 8, 1]])
    >>> changed_captions(ids, ids > 1, "other", 0, ()).tolist()
    [[0, 7, 8, 1], [0, 5, 6, 1]]
    >>> changed_captions(ids, ids > 1, "shuffled", 0, ()).tolist()
    [[0, 6, 5, 1], [0, 8, 7, 1]]
    """
    rows = range(len(ids))
    if change == "other":
        return torch.stack([ids[_next_other(ids, row)] for row in rows])
    result = ids.clone()
    for row in rows:
        words = ids[row, content[row]]
        generator = torch.Generator().manual_seed(seed)
        if change == "shuffled":
            told = words[torch.randperm(len(words), generator=generator)]
            told = words.roll(1) if torch.equal(told, words) else told
        else:
            pool = torch.as_tensor(list(vocabulary), dtype=ids.dtype)
            told = pool[torch.randint(len(pool), (len(words),), generator=generator)]
        result[row, content[row]] = told
    return result


def _next_other(ids: Tensor, row: int) -> int:
    """The next row, around the end, that is not the same."""
    turn = [(row + step) % len(ids) for step in range(1, len(ids))]
    return next((one for one in turn if not torch.equal(ids[one], ids[row])), row)


def map_change(one: Tensor, other: Tensor) -> Tensor:
    """1 − Spearman's ρ of maps ``(N, …)`` of the same size, in [0, 2]; NaN for a constant map.

    >>> maps = torch.arange(4.0).view(1, 2, 2)
    >>> [round(map_change(maps, other).item(), 6) for other in (3 * maps, -maps)]
    [0.0, 2.0]
    """
    correlation = pearson(ranks(one.flatten(1)), ranks(other.flatten(1)))
    return (1 - correlation).clamp(0, 2)


def permutation_p(scores: np.ndarray, null: np.ndarray) -> np.ndarray:
    """(1 + #{null ≥ score}) / (1 + draws) for scores ``(N,)`` and draws ``(N, K)``.

    >>> permutation_p(np.array([0.5]), np.array([[0.1, 0.6, 0.2]]))
    array([0.5])
    """
    p = (1 + (null >= scores[:, None]).sum(1)) / (1 + null.shape[1])
    return np.where(np.isnan(scores), np.nan, p)
