"""open_clip's models: CLIP and its variants with other image and text towers (extra ``open_clip``).

Their tokenizers pad with a token of their own and give no mask, so the towers find the padding
in the ids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from captum_ib.hooks import CompositeHook
from captum_ib.layout import TokenLayout
from captum_ib.models.clip import up_to_end
from captum_ib.models.encoder_towers import each_token
from captum_ib.models.tower import Tower, blocks_within, named_blocks


def open_clip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of an open_clip model (``CLIP``, ``CustomTextCLIP``, ``CoCa``).

    Raises:
        TypeError: a model of open_clip without an image and a text tower.
    """
    if not (hasattr(model, "encode_image") and hasattr(model, "encode_text")):
        raise TypeError(f"{type(model).__name__} of open_clip encodes no images and texts")
    return [OpenClipImageTower(model), OpenClipTextTower(model)]


class OpenClipTower(Tower):
    """A tower that the model itself runs.

    Args:
        name: the modality.
        model: the whole model.
        part: the encoder's name in the model; empty: the model itself.
        encode: the model's method, (inputs, normalize=) → embeddings ``(N, d)``.
    """

    def __init__(
        self, name: str, model: nn.Module, part: str, encode: Callable[..., Tensor]
    ) -> None:
        encoder = model.get_submodule(part)
        if hasattr(getattr(encoder, "transformer", None), "resblocks"):
            blocks = named_blocks(model, f"{part}.transformer.resblocks".lstrip("."))
        else:
            blocks = blocks_within(part, encoder)
        super().__init__(name, encoder, blocks=blocks)
        self.encode = encode  # a bound method: copied and pickled with its model

    def pooled(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.pooled`."""
        return self.encode(inputs, normalize=False)

    def last_hidden(self, inputs: Tensor) -> Tensor:
        """What comes out of the last block."""
        found: list[Tensor] = []
        name, block = self.blocks[-1]
        with CompositeHook([block], lambda _, value: found.append(value), names=[name]):
            self.pooled(inputs)
        return found[-1]


class OpenClipImageTower(OpenClipTower):
    """The image tower, one of open_clip's own or of timm."""

    def __init__(self, model: Any) -> None:
        super().__init__("image", model, "visual", model.encode_image)

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The last block's tokens through the tower's own head, each on its own.

        Raises:
            ValueError: a tower that pools tokens in a way that has no counterpart for single ones.
        """
        visual: Any = self.module
        trunk = getattr(visual, "trunk", None)
        if hasattr(visual, "ln_post") and getattr(visual, "attn_pool", None) is None:
            return _project(visual.ln_post(self.last_hidden(inputs)), visual.proj)
        if trunk is not None and hasattr(trunk, "fc_norm"):  # a ViT of timm
            hidden = trunk.norm(self.last_hidden(inputs))
            if trunk.attn_pool is not None:
                hidden = each_token(trunk.attn_pool, hidden)
            return visual.head(trunk.head(trunk.fc_norm(hidden)))
        raise ValueError(
            f"the image tower of this open_clip model ({type(visual).__name__}) pools its tokens "
            "in a way that has no counterpart for single tokens, so they have no place in the "
            "joint space"
        )


class OpenClipTextTower(OpenClipTower):
    """The text tower: a module of its own, or part of the model."""

    def __init__(self, model: Any) -> None:
        separate = isinstance(getattr(model, "text", None), nn.Module)
        super().__init__("text", model, "text" if separate else "", model.encode_text)
        # CoCa appends a class token.
        self.extra = int(getattr(self.module, "cls_emb", None) is not None)

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.tokens`."""
        encoder: Any = self.module
        hidden = self.last_hidden(inputs)
        if hasattr(encoder, "ln_final"):
            hidden = encoder.ln_final(hidden)
        return _project(hidden, getattr(encoder, "text_projection", getattr(encoder, "proj", None)))

    def token_mask(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """Tokens up to the pooled one, or those that are no padding; ``None``: all."""
        encoder: Any = self.module
        if hasattr(encoder, "config"):  # a transformers encoder
            return inputs != encoder.config.pad_token_id
        if self.extra:
            return nn.functional.pad(inputs != encoder.pad_id, (0, self.extra), value=True)
        pooling = getattr(encoder, "pool_type", getattr(encoder, "text_pool_type", "argmax"))
        if pooling == "argmax":
            return up_to_end(inputs, None)
        if pooling == "eos":
            end = getattr(encoder, "eos_id", getattr(encoder, "text_eos_id", 0))
            return up_to_end(inputs, int(end))
        return None

    def layout(
        self, layer: nn.Module, activation: Tensor, inputs: tuple[Tensor, ...], name: str
    ) -> TokenLayout:
        """A sequence, behind which CoCa has its class token."""
        return TokenLayout("sequence", suffix=self.extra)


def _project(hidden: Tensor, projection: Any) -> Tensor:
    if projection is None:
        return hidden
    return projection(hidden) if isinstance(projection, nn.Module) else hidden @ projection
