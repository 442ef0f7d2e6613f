"""transformers BLIP image–text retrieval, by its contrastive head."""

from __future__ import annotations

from typing import Any

from captum_ib.models.tower import Tower, image_tower, named_blocks, text_tower


def blip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``BlipForImageTextRetrieval``.

    Raises:
        TypeError: another of BLIP's models, which have no contrastive head.
    """
    if not hasattr(model, "vision_proj"):
        raise TypeError(
            f"{type(model).__name__} has no contrastive head; load the checkpoint as "
            "BlipForImageTextRetrieval"
        )
    image = image_tower(
        model.vision_model,
        named_blocks(model, "vision_model.encoder.layers"),
        lambda output: model.vision_proj(output.last_hidden_state[:, 0]),
        lambda output: model.vision_proj(output.last_hidden_state),
    )
    text = text_tower(
        model.text_encoder,
        named_blocks(model, "text_encoder.encoder.layer"),
        lambda output: model.text_proj(output.last_hidden_state[:, 0]),
        lambda output: model.text_proj(output.last_hidden_state),
    )
    return [image, text]
