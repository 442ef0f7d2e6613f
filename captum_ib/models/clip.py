"""transformers CLIP: towers of ``CLIPModel``, in transformers 4.x and 5.x."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ib.models.tower import Tower, named_blocks


def clip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``CLIPModel``."""

    def image_pooled(pixel_values: Tensor, mask: Tensor | None) -> Tensor:
        return model.visual_projection(model.vision_model(pixel_values=pixel_values).pooler_output)

    def image_tokens(pixel_values: Tensor, mask: Tensor | None) -> Tensor:
        hidden = model.vision_model(pixel_values=pixel_values).last_hidden_state
        return model.visual_projection(model.vision_model.post_layernorm(hidden))

    def text(input_ids: Tensor, mask: Tensor | None) -> Any:
        return model.text_model(input_ids=input_ids, attention_mask=mask)

    def text_mask(input_ids: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            return mask.bool()
        return up_to_end(input_ids, int(model.config.text_config.eos_token_id))

    return [
        Tower(
            "image",
            model.vision_model,
            image_pooled,
            image_tokens,
            named_blocks(model, "vision_model.encoder.layers"),
        ),
        Tower(
            "text",
            model.text_model,
            lambda ids, mask: model.text_projection(text(ids, mask).pooler_output),
            lambda ids, mask: model.text_projection(text(ids, mask).last_hidden_state),
            named_blocks(model, "text_model.encoder.layers"),
            takes_mask=True,
            token_mask=text_mask,
        ),
    ]


def up_to_end(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """Tokens up to the end token, which a causal tower pools; those behind it have no effect.

    CLIP checkpoints with the historic ``eos_token_id`` 2 pool the highest id instead.

    >>> up_to_end(torch.tensor([[7, 5, 9, 0]]), 9)
    tensor([[ True,  True,  True, False]])
    """
    if eos_token_id == 2:
        end = input_ids.argmax(dim=1)
    else:
        end = (input_ids == eos_token_id).int().argmax(dim=1)
    return torch.arange(input_ids.shape[1], device=input_ids.device)[None] <= end[:, None]
