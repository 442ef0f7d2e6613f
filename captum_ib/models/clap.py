"""transformers CLAP: spectrograms through a Swin that sees them folded into a square, and texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.layout import TokenLayout
from captum_ib.models.encoder_towers import EncoderTower, TextTower
from captum_ib.models.tower import Tower, named_blocks


class ClapAudioTower(EncoderTower):
    """The audio encoder, called with the feature extractor's ``input_features``.

    They are ``(N, 1, time, mel bins)``; maps come out as (time, frequency). A fused checkpoint
    takes ``(N, 4, time, mel bins)``, and ``is_longer`` ``(N, 1)`` in the place of a mask; without
    it, no clip counts as longer.
    """

    modality = "audio"

    def __init__(self, model: Any) -> None:
        encoder = model.audio_model.audio_encoder
        names = [f"audio_model.audio_encoder.layers.{i}.blocks" for i in range(len(encoder.layers))]
        blocks = [block for name in names for block in named_blocks(model, name)]
        super().__init__(model.audio_model, blocks, model.audio_projection)
        self.takes_mask = bool(encoder.enable_fusion)

    def run(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """See :meth:`EncoderTower.run`."""
        if mask is None and self.takes_mask:
            mask = torch.zeros(len(inputs), 1, dtype=torch.bool, device=inputs.device)
        return self.module(input_features=inputs, is_longer=mask)

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.tokens`; in the order of (time, frequency)."""
        grid = self.run(inputs, mask).last_hidden_state  # (N, C, frequency, time)
        return self.projection(grid.transpose(2, 3).flatten(2).transpose(1, 2))

    def token_mask(self, inputs: Tensor, mask: Tensor | None = None) -> None:
        """See :meth:`Tower.token_mask`; ``is_longer`` is none."""
        return None

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        """See :func:`folded_layout`."""
        return folded_layout(self.module.audio_encoder, activation, name)


def clap_towers(model: Any) -> list[Tower]:
    """The audio and the text tower of a transformers ``ClapModel``."""
    words = named_blocks(model, "text_model.encoder.layer")
    return [ClapAudioTower(model), TextTower(model.text_model, words, model.text_projection)]


def folded_layout(encoder: Any, activation: Tensor, name: str) -> TokenLayout:
    """The layout of a stage of CLAP's audio encoder, which is told by its number of tokens.

    Raises:
        ValueError: an activation of no stage.
    """
    for rows, columns in encoder.input_resolutions:
        if activation.ndim == 3 and activation.shape[1] == rows * columns:
            return TokenLayout("tokens", grid=(rows, columns), fold=int(encoder.freq_ratio))
    raise ValueError(
        f"the activation of layer {name} has shape {tuple(activation.shape)}, which is no stage of "
        f"this encoder (grids {list(encoder.input_resolutions)}); pass layout=, or choose a block"
    )
