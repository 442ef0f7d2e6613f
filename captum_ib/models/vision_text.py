"""transformers ``VisionTextDualEncoderModel``: any vision and any text encoder, two projections."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from captum_ib.models.encoder_towers import ImageTower, TextTower, each_token
from captum_ib.models.tower import Tower, blocks_within


def vision_text_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``VisionTextDualEncoderModel``."""
    vision, text = model.vision_model, model.text_model
    return [
        ImageTower(
            vision, blocks_within("vision_model", vision), model.visual_projection, _head(vision)
        ),
        TextTower(text, blocks_within("text_model", text), model.text_projection, _head(text)),
    ]


def _head(encoder: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """What the encoder pools with: a pooler, CLIP's last norm, or nothing."""
    inner: Any = getattr(encoder, "vision_model", encoder)  # CLIP's in transformers 4
    if getattr(inner, "pooler", None) is not None:
        return partial(each_token, inner.pooler)
    return getattr(inner, "post_layernorm", None)
