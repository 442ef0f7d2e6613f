"""transformers CLIP and what is built like it: MetaCLIP 2, AltCLIP, OWL-ViT, AIMv2, FLAVA, …"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_ib.models.encoder_towers import ImageTower, TextTower, each_token
from captum_ib.models.tower import Tower, named_blocks


class CausalTextTower(TextTower):
    """A text encoder that reads from left to right and pools the end token.

    Args:
        model: holds the encoder and its projection.
        end: the end token; ``None``: the highest id of each row.
    """

    def __init__(self, model: Any, end: int | None) -> None:
        blocks = named_blocks(model, "text_model.encoder.layers")
        super().__init__(model.text_model, blocks, model.text_projection)
        self.end = end

    def token_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.token_mask`; without a mask, the tokens up to the end token."""
        return up_to_end(inputs, self.end) if mask is None else mask.bool()


def clip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``CLIPModel``."""
    end = int(model.config.text_config.eos_token_id)
    # Checkpoints with the historic end token 2 pool the highest id instead.
    return [_image(model), CausalTextTower(model, None if end == 2 else end)]


def owlvit_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``OwlViTModel`` or ``Owlv2Model``.

    Their text encoder pools the highest id of each row.
    """
    return [_image(model), CausalTextTower(model, None)]


def aimv2_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``Aimv2Model``: attention pooling of patches.

    Raises:
        TypeError: a vision encoder without its pooling head.
    """
    pictures = model.vision_model
    if not hasattr(pictures, "head"):
        raise TypeError("this Aimv2Model has no pooling head (use_head): it compares no texts")
    image = ImageTower(
        pictures,
        named_blocks(model, "vision_model.encoder.layers"),
        model.visual_projection,
        head=partial(each_token, pictures.head),
    )
    return [image, CausalTextTower(model, int(model.config.text_config.eos_token_id))]


def flava_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``FlavaModel``: its contrastive part."""
    blocks = named_blocks(model, "image_model.encoder.layer")
    image = ImageTower(model.image_model, blocks, model.image_projection, first_token=True)
    return [image, _first_token_text(model, "text_model.encoder.layer")]


def groupvit_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``GroupViTModel``.

    Blocks of its image tower are those ahead of the first grouping: behind it tokens are groups
    of patches, and have no place.
    """
    blocks = named_blocks(model, "vision_model.encoder.stages.0.layers")
    image = ImageTower(model.vision_model, blocks, model.visual_projection)
    end = int(model.config.text_config.eos_token_id)
    return [image, CausalTextTower(model, None if end == 2 else end)]


def metaclip2_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``MetaClip2Model``."""
    return [_image(model), CausalTextTower(model, int(model.config.text_config.eos_token_id))]


def altclip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``AltCLIPModel``; texts go through XLM-R."""
    roberta = "text_model.roberta.encoder"
    return [_image(model), _first_token_text(model, f"{roberta}.layers", f"{roberta}.layer")]


def chinese_clip_towers(model: Any) -> list[Tower]:
    """Image and text tower of a transformers ``ChineseCLIPModel``; texts go through BERT."""
    return [_image(model), _first_token_text(model, "text_model.encoder.layer")]


def _image(model: Any) -> Tower:
    encoder = model.vision_model
    inner = getattr(encoder, "vision_model", encoder)  # AltCLIP in transformers 4.x wraps it
    blocks = named_blocks(
        model, "vision_model.encoder.layers", "vision_model.vision_model.encoder.layers"
    )
    return ImageTower(encoder, blocks, model.visual_projection, head=inner.post_layernorm)


def _first_token_text(model: Any, *prefixes: str) -> Tower:
    blocks = named_blocks(model, *prefixes)
    return TextTower(model.text_model, blocks, model.text_projection, first_token=True)


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
