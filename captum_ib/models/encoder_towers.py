"""Towers of encoders in transformers' style: outputs with names, and a projection behind them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from captum_ib.models.architectures import NamedLayer
from captum_ib.models.tower import Tower


class EncoderTower(Tower):
    """An encoder, and what leads from its output to the joint space.

    Args:
        encoder: gives an output with ``last_hidden_state`` and, mostly, ``pooler_output``.
        blocks: see :class:`~captum_ib.models.tower.Tower`.
        projection: into the joint space; default: the encoder's output lies there.
        head: what the tokens of ``last_hidden_state`` go through before the projection.
        first_token: whether the first token is projected in the place of ``pooler_output``.
    """

    modality: str
    padded = False

    def __init__(
        self,
        encoder: nn.Module,
        blocks: Sequence[NamedLayer],
        projection: nn.Module | None = None,
        head: Callable[[Tensor], Tensor] | None = None,
        first_token: bool = False,
    ) -> None:
        super().__init__(self.modality, encoder, blocks=blocks, takes_mask=self.padded)
        self.projection = projection or nn.Identity()
        self.head = head or nn.Identity()
        self.first_token = first_token

    def run(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """The encoder's output."""
        raise NotImplementedError(f"{type(self).__name__} defines no run")

    def pooled(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.pooled`."""
        output = self.run(inputs, mask)
        first = self.first_token
        return self.projection(output.last_hidden_state[:, 0] if first else output.pooler_output)

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.tokens`."""
        return self.projection(self.head(self.run(inputs, mask).last_hidden_state))


class ImageTower(EncoderTower):
    """A vision encoder, called with ``pixel_values``.

    For images of another size than the configured one its positions are interpolated, where this
    version of transformers can do so.
    """

    modality = "image"

    def run(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """See :meth:`EncoderTower.run`."""
        config: Any = self.module.config
        size = config.image_size
        expected = (size, size) if isinstance(size, int) else tuple(size)
        offered = "interpolate_pos_encoding" in inspect.signature(self.module.forward).parameters
        if tuple(inputs.shape[-2:]) == expected or not offered:
            return self.module(pixel_values=inputs)
        return self.module(pixel_values=inputs, interpolate_pos_encoding=True)


class TextTower(EncoderTower):
    """A text encoder, called with ``input_ids`` and ``attention_mask``."""

    modality = "text"
    padded = True

    def run(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """See :meth:`EncoderTower.run`."""
        return self.module(input_ids=inputs, attention_mask=mask)


def each_token(head: nn.Module, hidden: Tensor) -> Tensor:
    """A pooling head applied to every token on its own: ``(N, T, C)`` → ``(N, T, d)``."""
    return head(hidden.flatten(0, 1).unsqueeze(1)).unflatten(0, hidden.shape[:2])
