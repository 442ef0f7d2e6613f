"""open_clip's models: CLIP and its variants with other image and text towers (extra ``open_clip``).

Their tokenizers pad with a token of their own and give no mask, so the towers find the padding
in the ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.hooks import CompositeHook
from captum_ib.models.architectures import NamedLayer, stages
from captum_ib.models.clip import up_to_end
from captum_ib.layout import TokenLayout
from captum_ib.models.siglip import each_token
from captum_ib.models.tower import Tower, named_blocks


def open_clip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of an open_clip model (``CLIP``, ``CustomTextCLIP``, ``CoCa``).

    Raises:
        TypeError: a model of open_clip without an image and a text tower.
    """
    if not (hasattr(model, "encode_image") and hasattr(model, "encode_text")):
        raise TypeError(f"{type(model).__name__} of open_clip encodes no images and texts")
    image_blocks = _blocks(model, "visual")
    image = Tower(
        "image",
        model.visual,
        lambda pixels, mask: model.encode_image(pixels, normalize=False),
        lambda pixels, mask: _image_tokens(model, image_blocks, pixels),
        image_blocks,
    )
    return [image, _text(model)]


def _text(model: Any) -> Tower:
    separate = isinstance(getattr(model, "text", None), nn.Module)
    encoder = model.text if separate else model
    blocks = _blocks(model, "text") if separate else named_blocks(model, "transformer.resblocks")
    extra = int(getattr(encoder, "cls_emb", None) is not None)  # CoCa appends a class token

    def layout(
        layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        return TokenLayout("sequence", suffix=extra)

    def tokens(ids: Tensor, mask: Tensor | None) -> Tensor:
        hidden = _last_hidden(blocks, lambda: model.encode_text(ids, normalize=False))
        if hasattr(encoder, "ln_final"):
            hidden = encoder.ln_final(hidden)
        return _project(hidden, getattr(encoder, "text_projection", getattr(encoder, "proj", None)))

    return Tower(
        "text",
        encoder,
        lambda ids, mask: model.encode_text(ids, normalize=False),
        tokens,
        blocks,
        token_mask=lambda ids, mask: _valid(encoder, ids, extra),
        infer_layout=layout,
    )


def _blocks(model: Any, part: str) -> list[NamedLayer]:
    """The blocks of the image or the text tower, with their names in the model."""
    tower = getattr(model, part)
    if hasattr(getattr(tower, "transformer", None), "resblocks"):
        return named_blocks(model, f"{part}.transformer.resblocks")
    return [(f"{part}.{name}", block) for name, block in stages(tower).blocks]


def _valid(encoder: Any, ids: Tensor, extra: int) -> Tensor | None:
    """Tokens that count: up to the pooled one, or those that are no padding; ``None``: all."""
    if hasattr(encoder, "config"):  # a transformers encoder
        return ids != encoder.config.pad_token_id
    if extra:
        return nn.functional.pad(ids != encoder.pad_id, (0, extra), value=True)
    pooling = getattr(encoder, "pool_type", getattr(encoder, "text_pool_type", "argmax"))
    if pooling == "argmax":
        return up_to_end(ids, None)
    if pooling == "eos":
        return up_to_end(ids, int(getattr(encoder, "eos_id", getattr(encoder, "text_eos_id", 0))))
    return None


def _image_tokens(model: Any, blocks: list[NamedLayer], pixels: Tensor) -> Tensor:
    """The last block's tokens through the tower's own head, each on its own.

    Raises:
        ValueError: a tower that pools tokens in a way that has no counterpart for single ones.
    """
    visual = model.visual
    trunk: Any = getattr(visual, "trunk", None)
    hidden = _last_hidden(blocks, lambda: model.encode_image(pixels, normalize=False))
    if hasattr(visual, "ln_post") and getattr(visual, "attn_pool", None) is None:
        return _project(visual.ln_post(hidden), visual.proj)
    if hasattr(trunk, "fc_norm"):  # a ViT of timm
        hidden = trunk.norm(hidden)
        if trunk.attn_pool is not None:
            hidden = each_token(trunk.attn_pool, hidden)
        return visual.head(trunk.head(trunk.fc_norm(hidden)))
    raise ValueError(
        f"the image tower of this open_clip model ({type(visual).__name__}) pools its tokens in a "
        "way that has no counterpart for single tokens, so they have no place in the joint space"
    )


def _last_hidden(blocks: list[NamedLayer], run: Callable[[], Any]) -> Tensor:
    """What comes out of the last block."""
    found: list[Tensor] = []
    name, block = blocks[-1]
    with CompositeHook([block], lambda _, value: found.append(value), names=[name]):
        run()
    return found[-1]


def _project(hidden: Tensor, projection: Any) -> Tensor:
    if projection is None:
        return hidden
    return (
        projection(hidden)
        if isinstance(projection, nn.Module)
        else torch.matmul(hidden, projection)
    )
