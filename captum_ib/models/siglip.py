"""transformers SigLIP and SigLIP 2: attention pooling of patches, texts pooled at their last token.

Both were trained on texts padded to full length without an attention mask: pass none, as their
documentation does, and the padding counts as text; with a mask, padding is left out.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_ib.models.encoder_towers import ImageTower, TextTower, each_token
from captum_ib.models.tower import Tower, named_blocks


class Siglip2ImageTower(ImageTower):
    """An encoder of patches that takes images ``(N, 3, H, W)`` here, of any size.

    Their sides are multiples of the patch size; they are cut into patches in the order in which
    SigLIP 2's image processor does that.
    """

    def run(self, inputs: Tensor, mask: Tensor | None = None) -> Any:
        """See :meth:`EncoderTower.run`."""
        config: Any = self.module.config
        patches, grid = patchify(inputs, int(config.patch_size))
        shapes = torch.tensor([grid] * len(patches), device=patches.device)
        every = torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device)
        return self.module(pixel_values=patches, pixel_attention_mask=every, spatial_shapes=shapes)


def siglip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``SiglipModel``."""
    return _towers(model, ImageTower)


def siglip2_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``Siglip2Model`` (flexible resolution)."""
    return _towers(model, Siglip2ImageTower)


def _towers(model: Any, image: type[ImageTower]) -> list[Tower]:
    pictures, texts = model.vision_model, model.text_model
    return [
        image(
            pictures,
            named_blocks(model, "vision_model.encoder.layers"),
            head=partial(each_token, pictures.head),
        ),
        TextTower(texts, named_blocks(model, "text_model.encoder.layers"), head=texts.head),
    ]


def patchify(pixel_values: Tensor, patch: int) -> tuple[Tensor, tuple[int, int]]:
    """Images as rows of patches ``(N, h·w, patch·patch·C)``, and the grid ``(h, w)``.

    Raises:
        ValueError: no images, or sides that are no multiples of the patch size.

    >>> patches, grid = patchify(torch.zeros(1, 3, 4, 6), 2)
    >>> patches.shape, grid
    (torch.Size([1, 6, 12]), (2, 3))
    """
    shape = tuple(pixel_values.shape)
    if len(shape) != 4 or shape[2] % patch or shape[3] % patch:
        raise ValueError(
            f"SigLIP 2 takes images (N, C, H, W) here, with sides that are multiples of {patch} "
            f"(not the patches of its image processor); given shape {shape}"
        )
    n, channels, height, width = shape
    grid = height // patch, width // patch
    cells = pixel_values.reshape(n, channels, grid[0], patch, grid[1], patch)
    return cells.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2), grid
