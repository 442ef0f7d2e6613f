"""transformers CLAP: spectrograms through a Swin that sees them folded into a square, and texts."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.layout import TokenLayout
from captum_ib.models.tower import Tower, named_blocks, text_tower


def clap_towers(model: Any) -> list[Tower]:
    """The audio and the text tower of a transformers ``ClapModel``.

    Audio is the feature extractor's ``input_features`` ``(N, 1, time, mel bins)``; maps come out
    as (time, frequency). A fused checkpoint takes ``(N, 4, time, mel bins)``, and ``is_longer``
    ``(N, 1)`` in the place of a mask; without it, no clip counts as longer.
    """
    encoder = model.audio_model.audio_encoder
    fused = bool(encoder.enable_fusion)

    def run(features: Tensor, is_longer: Tensor | None) -> Any:
        if is_longer is None and fused:
            is_longer = torch.zeros(len(features), 1, dtype=torch.bool, device=features.device)
        return model.audio_model(input_features=features, is_longer=is_longer)

    def tokens(features: Tensor, is_longer: Tensor | None) -> Tensor:
        grid = run(features, is_longer).last_hidden_state  # (N, C, frequency, time)
        return model.audio_projection(grid.transpose(2, 3).flatten(2).transpose(1, 2))

    def layout(
        layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        return folded_layout(encoder, activation, name)

    stages = range(len(encoder.layers))
    audio = Tower(
        "audio",
        model.audio_model,
        lambda features, longer: model.audio_projection(run(features, longer).pooler_output),
        tokens,
        [
            block
            for stage in stages
            for block in named_blocks(model, f"audio_model.audio_encoder.layers.{stage}.blocks")
        ],
        takes_mask=fused,
        token_mask=lambda features, longer: None,
        infer_layout=layout,
    )
    text = text_tower(
        model.text_model,
        named_blocks(model, "text_model.encoder.layer"),
        lambda output: model.text_projection(output.pooler_output),
        lambda output: model.text_projection(output.last_hidden_state),
    )
    return [audio, text]


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
