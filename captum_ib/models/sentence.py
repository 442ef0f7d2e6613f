"""Sentence encoders: a text encoder and its pooling, twice, so that two texts are a pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.checks import require_choice
from captum_ib.models.tower import Tower, blocks_within

Pool = Callable[[Tensor, Tensor], Tensor]
"""(hidden ``(N, T, C)``, mask ``(N, T, 1)`` in its type) → ``(N, C)``."""


def _mean(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1e-9)


def _mean_sqrt(hidden: Tensor, mask: Tensor) -> Tensor:
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp_min(1e-9).sqrt()


def _weighted_mean(hidden: Tensor, mask: Tensor) -> Tensor:
    steps = torch.arange(1, hidden.shape[1] + 1, device=hidden.device, dtype=hidden.dtype)
    return _mean(hidden, mask * steps[None, :, None])


def _max(hidden: Tensor, mask: Tensor) -> Tensor:
    return hidden.masked_fill(mask == 0, float("-inf")).amax(dim=1)


def _first(hidden: Tensor, mask: Tensor) -> Tensor:
    return _at(hidden, mask[..., 0].to(torch.int64).argmax(dim=1))


def _last(hidden: Tensor, mask: Tensor) -> Tensor:
    flipped = mask[..., 0].to(torch.int64).flip(dims=(1,))
    return _at(hidden, mask.shape[1] - 1 - flipped.argmax(dim=1))


def _at(hidden: Tensor, places: Tensor) -> Tensor:
    return hidden[torch.arange(len(hidden), device=hidden.device), places]


POOLING: dict[str, Pool] = {
    "mean": _mean,
    "cls": _first,
    "max": _max,
    "mean_sqrt_len": _mean_sqrt,
    "weighted_mean": _weighted_mean,
    "last_token": _last,
}
"""How the tokens become one embedding; padding stays out of all. ``weighted_mean`` gives the t-th
token the weight t (SGPT), ``mean_sqrt_len`` divides by the root of the length."""


class SentenceEncoder(nn.Module):
    """A text encoder of transformers with a pooling: texts → embeddings.

    ``DualEncoder.from_model`` makes a pair of two texts of it.

    Args:
        encoder: takes ``input_ids`` and ``attention_mask``, gives ``last_hidden_state``.
        pooling: one or several of :data:`POOLING`; several are put one behind the other.
        normalise: whether embeddings have length 1.

    Raises:
        ValueError: an unknown pooling, or none.

    >>> from transformers import BertConfig, BertModel
    >>> bert = BertModel(BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1,
    ...                             num_attention_heads=2, intermediate_size=8))
    >>> ids, mask = torch.tensor([[1, 2, 0]]), torch.tensor([[1, 1, 0]])
    >>> SentenceEncoder(bert).eval()(ids, mask).shape
    torch.Size([1, 8])
    """

    def __init__(
        self, encoder: nn.Module, pooling: str | Sequence[str] = "mean", normalise: bool = True
    ) -> None:
        super().__init__()
        self.pooling = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        if not self.pooling:
            raise ValueError(f"pooling is empty, expected one of {', '.join(POOLING)}")
        for one in self.pooling:
            require_choice("pooling", one, POOLING)
        self.encoder = encoder
        self.normalise = normalise

    def hidden(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """The encoder's last tokens, ``(N, T, C)``.

        Raises:
            ValueError: padding among the ids, and no mask.
        """
        if attention_mask is None:
            self._require_no_padding(input_ids)
        output: Any = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
        return output.last_hidden_state

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Embeddings ``(N, d)``; errors as in :meth:`hidden`."""
        hidden = self.hidden(input_ids, attention_mask)
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        weights = mask.unsqueeze(-1).to(hidden.dtype)
        pooled = torch.cat([POOLING[one](hidden, weights) for one in self.pooling], dim=-1)
        return nn.functional.normalize(pooled, dim=-1) if self.normalise else pooled

    def _require_no_padding(self, input_ids: Tensor) -> None:
        padding = getattr(getattr(self.encoder, "config", None), "pad_token_id", None)
        if padding is not None and bool((input_ids == padding).any()):
            raise ValueError(
                f"the text's ids hold padding ({padding}), and no mask says so: pass the "
                "tokenizer's attention_mask (to attribute() as additional_forward_args, for two "
                "texts (mask, mask))"
            )


class SentenceTower(Tower):
    """One of the two texts of a pair.

    Args:
        name: the modality, ``"first"`` or ``"second"``.
        model: the sentence encoder, the same for both.
    """

    def __init__(self, name: str, model: SentenceEncoder) -> None:
        blocks = blocks_within("encoder", model.encoder)
        super().__init__(name, model.encoder, blocks=blocks, takes_mask=True)
        self.sentences = model

    def pooled(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.pooled`."""
        return self.sentences(inputs, mask)

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.tokens`."""
        hidden = self.sentences.hidden(inputs, mask)
        return torch.cat([hidden] * len(self.sentences.pooling), dim=-1)


def sentence_towers(model: Any) -> list[Tower]:
    """Two towers over one :class:`SentenceEncoder`."""
    return [SentenceTower("first", model), SentenceTower("second", model)]
