"""Synergistic faithfulness: do the best pixels and the best words work together?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import torch
from quantus.helpers.enums import DataType, EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_ib.checks import require_choice
from captum_ib.metrics.base import Samples, TorchMetric, check_array, pixel_maps, require_both
from captum_ib.metrics.fills import Numbers, black
from captum_ib.metrics.insertion_deletion import rank_pixels
from captum_ib.metrics.scorer import Pair, is_dual, model_device, model_input, token_mask
from captum_ib.metrics.selection import content_values


class SynergisticFaithfulness(TorchMetric):
    """F_syn of Ky, Ghamizi and Cordy (2026, arXiv 2605.22168), of a dual encoder; higher is better.

    At each share s of pixels and of words, most relevant first, v_s and t_s are the picture and the
    caption of only these, ∅ an empty one. The joint Harsanyi dividend of the two sides is

        I(s) = f(v_s, t_s) − f(v_s, ∅) − f(∅, t_s) + f(∅, ∅),

    what both bring together that neither brings alone; for ``order="deletion"``, with v_s and t_s
    what is left without them, f(v_s, t_s) − f(v_s, t) − f(v, t_s) + f(v, t). The score is 100 times
    the area under I over s, by the trapezoid rule. Of two towers, f is the cosine of embeddings, so
    I(s) = (E_v(v_s) − E_v(∅)) · (E_t(t_s) − E_t(∅)), and each side is encoded once a step.

    The authors' code divides by f(v, t) − f(∅, ∅), which for cosines may be 0 or negative: here
    that needs ``relative=True``.

    In a call ``x_batch`` and ``a_batch`` are the images and their maps, ``y_batch`` the captions'
    ids and ``custom_batch`` their attributions ``(N, T)``.

    Args:
        special_tokens: ids that always stay and never count (begin, end, padding).
        blank_token: id that replaces a removed token.
        pad_token: id of padding, for dual encoders that can't tell it from the ids themselves.
        steps: equal steps of the share (10, as the authors' code).
        order: ``"insertion"`` or ``"deletion"``.
        relative: divide by f(v, t) − f(∅, ∅).
        mean: per-channel mean that preprocessing subtracted; with ``std``, it tells what black is.
        std: per-channel standard deviation that preprocessing divided by.
        baseline: what removed pixels become instead of black, in units of the model's input.
        kwargs: see ``TorchMetric``.

    Attributes:
        curves: ``(N, steps + 1)``, 100 · I(s) of the last call.

    Raises:
        TypeError: the model is no dual encoder with images first and text second.
        ValueError: no attributions of the captions; a caption of special tokens only (see
            ``undefined``); with ``relative``, f(v, t) ≤ f(∅, ∅) (likewise).
    """

    name = "Synergistic Faithfulness"
    data_applicability = {DataType.IMAGE, DataType.TEXT}  # noqa: RUF012
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.FAITHFULNESS

    def __init__(
        self,
        *,
        special_tokens: Sequence[int],
        blank_token: int,
        pad_token: int | None = None,
        steps: int = 10,
        order: Literal["insertion", "deletion"] = "insertion",
        relative: bool = False,
        mean: Numbers = None,
        std: Numbers = None,
        baseline: Numbers = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_both(mean, std)
        require_choice("order", order, ("insertion", "deletion"))
        if steps < 1:
            raise ValueError(f"steps must be at least 1, given {steps}")
        self.special_tokens, self.blank_token = special_tokens, blank_token
        self.pad_token, self.steps, self.order = pad_token, steps, order
        self.relative, self.mean, self.std, self.baseline = relative, mean, std, baseline
        self.curves = np.empty((0, 0))

    def _begin(self) -> None:
        self._rows: list[np.ndarray] = []

    def custom_postprocess(self, **kwargs: Any) -> None:
        """Join the batches' curves."""
        self.curves = np.concatenate(self._rows)

    def evaluate_batch(self, *args: Any, custom_batch: Any = None, **kwargs: Any) -> list:
        """Scores of one batch; called by Quantus."""
        self._words = custom_batch
        return super().evaluate_batch(*args, **kwargs)

    @torch.no_grad()
    def _evaluate(self, samples: Samples) -> list[float]:
        dual = samples.model.get_model()
        if not is_dual(dual) or tuple(cast(Pair, dual).modalities)[:2] != ("image", "text"):
            raise TypeError(f"{self.name} needs a dual encoder of images and text")
        where = model_device(dual, getattr(samples.model, "device", None))
        ids = model_input(samples.y, dual, where)
        valid = token_mask(dual, "text", ids, self.pad_token)
        values, content = self._content(ids, valid)
        bare = ~content.any(1)
        self._undefined(bare.cpu(), "a text of special tokens only")
        images, ranks = self._pictures(samples, dual, where)
        pixels = ranks[0].numel()
        empty = black(images, self.mean, self.std, self.baseline, self.name)
        words = word_ranks(values, content)
        seen, read = [], []
        for share in torch.linspace(0, 1, self.steps + 1, dtype=torch.float64).tolist():
            best = (ranks < round(share * pixels))[:, None]
            told = words < torch.round(share * content.sum(1, keepdim=True))
            if self.order == "deletion":
                best, told = ~best, ~told
            text = ids.masked_fill(content & ~told, self.blank_token)
            seen.append(cast(Pair, dual).encode("image", torch.where(best, images, empty)))
            read.append(cast(Pair, dual).encode("text", text, valid))
        return self._scored(torch.stack(seen, 1), torch.stack(read, 1), bare)

    def _content(self, ids: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
        if self._words is None:
            raise ValueError(f"{self.name} needs the captions' attributions: custom_batch= (N, T)")
        words = np.asarray(self._words)
        check_array("custom_batch", words)
        return content_values(ids, words, self.special_tokens, self.blank_token, valid, self.name)

    def _pictures(self, samples: Samples, dual: Any, where: torch.device) -> tuple[Tensor, Tensor]:
        maps = pixel_maps(samples.a, samples.x, self.name)
        return model_input(samples.x, dual, where), rank_pixels(maps).to(where)

    def _scored(self, seen: Tensor, read: Tensor, bare: Tensor) -> list[float]:
        """Areas of the dividends of embeddings ``(N, steps + 1, d)`` along the walk."""
        seen, read = seen.double(), read.double()
        # At its start an insertion holds nothing, a deletion everything.
        moved = (seen - seen[:, :1]) * (read - read[:, :1])
        curves = 100 * moved.sum(-1)
        if self.relative:
            ends = (seen * read).sum(-1)
            whole = (ends[:, -1] - ends[:, 0]) * (1 if self.order == "insertion" else -1)
            none = whole <= 0
            self._undefined(none.cpu(), "a pair that is no more similar than an empty one")
            curves, bare = curves / whole[:, None], bare | none
        curves = curves.masked_fill(bare[:, None], torch.nan).cpu()
        self._rows.append(curves.numpy())
        return torch.trapezoid(curves, dx=1 / self.steps, dim=1).tolist()


def word_ranks(values: Tensor, content: Tensor) -> Tensor:
    """0 for the content token with the largest attribution, 1 for the next, …; ties to the earlier.

    Args:
        values: ``(N, T)``.
        content: ``(N, T)`` bool; the other tokens come last.
    """
    order = values.masked_fill(~content, -torch.inf).argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
