"""transformers BLIP image–text retrieval, by its contrastive head."""

from __future__ import annotations

from typing import Any

from captum_ib.models.encoder_towers import ImageTower, TextTower
from captum_ib.models.tower import Tower, named_blocks


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
    return [
        ImageTower(
            model.vision_model,
            named_blocks(model, "vision_model.encoder.layers"),
            model.vision_proj,
            first_token=True,
        ),
        TextTower(
            model.text_encoder,
            named_blocks(model, "text_encoder.encoder.layer"),
            model.text_proj,
            first_token=True,
        ),
    ]
