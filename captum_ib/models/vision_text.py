"""transformers ``VisionTextDualEncoderModel``: any vision and any text encoder, two projections."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_ib.models.architectures import NamedLayer, stages
from captum_ib.models.siglip import each_token
from captum_ib.models.tower import Tower, image_tower, text_tower


def vision_text_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``VisionTextDualEncoderModel``."""
    image = image_tower(
        model.vision_model,
        _blocks(model, "vision_model"),
        lambda output: model.visual_projection(output.pooler_output),
        lambda output: model.visual_projection(
            _pooled_alone(model.vision_model, output.last_hidden_state)
        ),
    )
    text = text_tower(
        model.text_model,
        _blocks(model, "text_model"),
        lambda output: model.text_projection(output.pooler_output),
        lambda output: model.text_projection(
            _pooled_alone(model.text_model, output.last_hidden_state)
        ),
    )
    return [image, text]


def _blocks(model: Any, part: str) -> list[NamedLayer]:
    found = stages(getattr(model, part)).blocks
    return [(f"{part}.{name}", block) for name, block in found]


def _pooled_alone(encoder: Any, hidden: Tensor) -> Tensor:
    """What the encoder's pooling makes of every token: a pooler, CLIP's last norm, or nothing."""
    inner = getattr(encoder, "vision_model", encoder)  # CLIP's in transformers 4
    if getattr(inner, "pooler", None) is not None:
        return each_token(inner.pooler, hidden)
    return inner.post_layernorm(hidden) if hasattr(inner, "post_layernorm") else hidden
