"""ALBEF (Li et al., NeurIPS 2021): a ViT, the first half of a BERT, and two projections.

Its contrastive part compares the first tokens of both. The second half of the BERT, which fuses
the two, and the momentum models are no part of it. Modules have the published names.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from captum_ib.models.encoder_towers import EncoderOutput, EncoderTower, TextTower
from captum_ib.models.tower import Tower, named_blocks


class Albef(nn.Module):
    """The two encoders of ALBEF and their projections into the joint space.

    Args:
        vision: what timm's ``VisionTransformer`` is built with (``img_size``, ``embed_dim``, …).
        text: a transformers ``BertConfig``, of the layers before the fusion.
        joint: the width of the joint space.
    """

    def __init__(self, vision: dict[str, Any], text: Any, joint: int) -> None:
        from timm.models.vision_transformer import VisionTransformer
        from transformers import BertModel

        super().__init__()
        self.config = SimpleNamespace(model_type="albef", vision=vision, text=text)
        self.visual_encoder = VisionTransformer(**vision, num_classes=0, global_pool="")
        self.text_encoder = BertModel(text, add_pooling_layer=False)
        self.vision_proj = nn.Linear(vision["embed_dim"], joint)
        self.text_proj = nn.Linear(text.hidden_size, joint)


class _ImageTower(EncoderTower):
    modality = "image"

    def run(self, inputs: Tensor, mask: Tensor | None = None) -> EncoderOutput:
        tokens: Any = SimpleNamespace(last_hidden_state=self.module(inputs))
        return tokens


def albef_towers(model: Albef) -> list[Tower]:
    """The image and the text tower of an :class:`Albef`."""
    return [
        _ImageTower(
            model.visual_encoder,
            named_blocks(model, "visual_encoder.blocks"),
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
