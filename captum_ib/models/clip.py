"""transformers CLIP and what is built like it: MetaCLIP 2, AltCLIP and Chinese-CLIP."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ib.models.tower import Tower, image_tower, named_blocks, text_tower


def clip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``CLIPModel``."""
    end = int(model.config.text_config.eos_token_id)

    def valid(input_ids: Tensor, mask: Tensor | None) -> Tensor:
        # Checkpoints with the historic end token 2 pool the highest id instead.
        return mask.bool() if mask is not None else up_to_end(input_ids, None if end == 2 else end)

    return [_image(model), _causal_text(model, valid)]


def metaclip2_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``MetaClip2Model``."""
    end = int(model.config.text_config.eos_token_id)

    def valid(input_ids: Tensor, mask: Tensor | None) -> Tensor:
        return mask.bool() if mask is not None else up_to_end(input_ids, end)

    return [_image(model), _causal_text(model, valid)]


def altclip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``AltCLIPModel``; texts go through XLM-R."""
    text = text_tower(
        model.text_model,
        named_blocks(
            model, "text_model.roberta.encoder.layers", "text_model.roberta.encoder.layer"
        ),
        lambda output: model.text_projection(output.last_hidden_state[:, 0]),
        lambda output: model.text_projection(output.last_hidden_state),
    )
    return [_image(model), text]


def chinese_clip_towers(model: Any) -> list[Tower]:
    """Image and text tower of a transformers ``ChineseCLIPModel``; texts go through BERT."""
    text = text_tower(
        model.text_model,
        named_blocks(model, "text_model.encoder.layer"),
        lambda output: model.text_projection(output.last_hidden_state[:, 0]),
        lambda output: model.text_projection(output.last_hidden_state),
    )
    return [_image(model), text]


def _image(model: Any) -> Tower:
    encoder = model.vision_model
    inner = getattr(encoder, "vision_model", encoder)  # AltCLIP in transformers 4.x wraps it
    return image_tower(
        encoder,
        named_blocks(
            model, "vision_model.encoder.layers", "vision_model.vision_model.encoder.layers"
        ),
        lambda output: model.visual_projection(output.pooler_output),
        lambda output: model.visual_projection(inner.post_layernorm(output.last_hidden_state)),
    )


def _causal_text(model: Any, valid: Any) -> Tower:
    return text_tower(
        model.text_model,
        named_blocks(model, "text_model.encoder.layers"),
        lambda output: model.text_projection(output.pooler_output),
        lambda output: model.text_projection(output.last_hidden_state),
        valid,
    )


def up_to_end(input_ids: Tensor, end: int | None) -> Tensor:
    """Tokens up to the first end token, which a causal tower pools; later ones have no effect.

    Args:
        input_ids: ``(N, T)``.
        end: the end token; ``None``: the highest id of each row.

    >>> up_to_end(torch.tensor([[7, 5, 9, 0]]), 9)
    tensor([[ True,  True,  True, False]])
    """
    if end is None:
        position = input_ids.argmax(dim=1)
    else:
        position = (input_ids == end).int().argmax(dim=1)
    return torch.arange(input_ids.shape[1], device=input_ids.device)[None] <= position[:, None]
