"""transformers ALIGN: an EfficientNet for images, BERT for texts."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_ib.models.encoder_towers import ImageTower, TextTower
from captum_ib.models.tower import Tower, named_blocks


class AlignImageTower(ImageTower):
    """The EfficientNet. Its last feature map is the joint space, so its cells are the tokens."""

    def tokens(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """See :meth:`Tower.tokens`."""
        return self.run(inputs).last_hidden_state.flatten(2).transpose(1, 2)


def align_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``AlignModel``."""
    words = named_blocks(model, "text_model.encoder.layer")
    return [
        AlignImageTower(model.vision_model, named_blocks(model, "vision_model.encoder.blocks")),
        TextTower(model.text_model, words, model.text_projection, first_token=True),
    ]
