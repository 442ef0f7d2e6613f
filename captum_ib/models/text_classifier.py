"""Classifiers of texts whose second argument is not the mask, so that (ids, mask) fits all."""

from __future__ import annotations

import inspect
from typing import Any

from torch import Tensor, nn


class TextClassifier(nn.Module):
    """``(input_ids, attention_mask)`` → logits ``(N, classes)``, by the names of the arguments.

    transformers' GPT-2 takes its cache where other models take the mask.

    Args:
        model: a ``…ForSequenceClassification`` of transformers.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.config = model.config
        self.training = model.training

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Logits.

        Args:
            input_ids: ``(N, T)``.
            attention_mask: ``(N, T)``, 1 at the tokens that count; default: all.
        """
        return self.model(input_ids=input_ids, attention_mask=attention_mask).logits


def by_name(model: nn.Module) -> nn.Module:
    """A classifier of texts that can be called with ids and mask: the model itself if it can."""
    second = list(inspect.signature(model.forward).parameters)[1:2]
    return model if second == ["attention_mask"] else TextClassifier(model)
