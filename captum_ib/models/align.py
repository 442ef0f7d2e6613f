"""transformers ALIGN: an EfficientNet for images, BERT for texts."""

from __future__ import annotations

from typing import Any

from captum_ib.models.tower import Tower, named_blocks, text_tower


def align_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``AlignModel``.

    The joint space is the EfficientNet's last feature map, so its cells are tokens as they are.
    """
    image = Tower(
        "image",
        model.vision_model,
        lambda pixels, mask: model.vision_model(pixel_values=pixels).pooler_output,
        lambda pixels, mask: (
            model.vision_model(pixel_values=pixels).last_hidden_state.flatten(2).transpose(1, 2)
        ),
        named_blocks(model, "vision_model.encoder.blocks"),
    )
    text = text_tower(
        model.text_model,
        named_blocks(model, "text_model.encoder.layer"),
        lambda output: model.text_projection(output.last_hidden_state[:, 0]),
        lambda output: model.text_projection(output.last_hidden_state),
    )
    return [image, text]
