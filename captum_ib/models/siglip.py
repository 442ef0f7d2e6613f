"""transformers SigLIP and SigLIP 2: attention pooling of patches, texts pooled at their last token.

Both were trained on texts padded to full length without an attention mask: pass none, as their
documentation does, and the padding counts as text; with a mask, padding is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.models.tower import Tower, image_tower, named_blocks, text_tower


def siglip_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``SiglipModel``."""
    image = image_tower(
        model.vision_model,
        named_blocks(model, "vision_model.encoder.layers"),
        lambda output: output.pooler_output,
        lambda output: each_token(model.vision_model.head, output.last_hidden_state),
    )
    return [image, _text(model)]


def siglip2_towers(model: Any) -> list[Tower]:
    """The image and the text tower of a transformers ``Siglip2Model`` (flexible resolution).

    Its image tower takes images ``(N, 3, H, W)`` here, of any size whose sides are multiples of
    the patch size; they are cut into patches in the order in which its image processor does that.
    """
    encoder = model.vision_model
    patch = int(model.config.vision_config.patch_size)

    def run(pixel_values: Tensor) -> Any:
        patches, grid = patchify(pixel_values, patch)
        shapes = torch.tensor([grid] * len(patches), device=patches.device)
        mask = torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device)
        return encoder(pixel_values=patches, pixel_attention_mask=mask, spatial_shapes=shapes)

    image = Tower(
        "image",
        encoder,
        lambda pixels, mask: run(pixels).pooler_output,
        lambda pixels, mask: each_token(encoder.head, run(pixels).last_hidden_state),
        named_blocks(model, "vision_model.encoder.layers"),
    )
    return [image, _text(model)]


def _text(model: Any) -> Tower:
    return text_tower(
        model.text_model,
        named_blocks(model, "text_model.encoder.layers"),
        lambda output: output.pooler_output,
        lambda output: model.text_model.head(output.last_hidden_state),
    )


def each_token(head: nn.Module, hidden: Tensor) -> Tensor:
    """A pooling head applied to every token on its own: ``(N, T, C)`` → ``(N, T, d)``."""
    return head(hidden.flatten(0, 1).unsqueeze(1)).unflatten(0, hidden.shape[:2])


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
