"""What confidence and ROAR+ do to a pair, as inputs that can be looked at (CA-M2IB, Fig. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from captum_ib.metrics.base import pixel_maps
from captum_ib.metrics.selection import above_quantile, content_values, min_max, top_tokens


@dataclass(frozen=True)
class Degraded:
    """Pairs as the metrics of faithfulness change them.

    Attributes:
        kept_image: the image × its min–max-scaled map, ``(N, C, H, W)`` (confidence).
        kept_text: the better half of the content tokens, the others blank, ``(N, T)`` (confidence).
        removed_image: pixels above the 75th percentile at the channels' mean (ROAR+).
        removed_text: content tokens above the 50th percentile blank (ROAR+).
    """

    kept_image: Tensor
    kept_text: Tensor
    removed_image: Tensor
    removed_text: Tensor


def degraded_sample(
    images: Tensor,
    ids: Tensor,
    image_maps: np.ndarray,
    text_maps: np.ndarray,
    *,
    special_tokens: Sequence[int],
    blank_token: int,
    mask: Tensor | None = None,
    keep: float = 0.5,
    image_quantile: float = 0.75,
    text_quantile: float = 0.5,
    fill: Tensor | None = None,
) -> Degraded:
    """Pairs as ``ConfidenceDrop`` distils them and as ``ROARPlus`` trains on them.

    Args:
        images: ``(N, C, H, W)``, the model's input.
        ids: ``(N, T)``.
        image_maps, text_maps: a method's attribution, ``(N, 1, H, W)`` and ``(N, T)``.
        special_tokens, blank_token, keep: as for ``ConfidenceDrop``.
        mask: ``(N, T)``, 1 for tokens; default: all.
        image_quantile, text_quantile: as for ``ROARPlus``.
        fill: per channel, what removed pixels become; default: the images' mean.

    Raises:
        ValueError: maps of another shape; a constant map, which ranks nothing.

    >>> image, ids = torch.arange(4.0).view(1, 1, 2, 2), torch.tensor([[0, 5, 6]])
    >>> found = degraded_sample(image, ids, image.numpy(), np.array([[0.0, 2.0, 1.0]]),
    ...                         special_tokens=[0], blank_token=9)
    >>> found.kept_text.tolist(), found.removed_text.tolist()
    ([[0, 5, 9]], [[0, 9, 6]])
    >>> found.removed_image.flatten().tolist()
    [0.0, 1.0, 2.0, 1.5]
    """
    maps = pixel_maps(image_maps, images.cpu().numpy(), "degraded_sample").to(images.device)
    if bool((maps.flatten(1).amax(1) == maps.flatten(1).amin(1)).any()):
        raise ValueError("a map is constant, so it ranks no pixel; leave its sample out")
    scaled = min_max(maps).to(images.dtype)[:, None]
    chosen = above_quantile(maps.flatten(1), image_quantile).view(maps.shape)[:, None]
    mean = images.mean((0, 2, 3)) if fill is None else fill.to(images)
    values, content = content_values(
        ids, text_maps, special_tokens, blank_token, mask, "degraded_sample"
    )
    kept = top_tokens(values, keep, content)
    removed = above_quantile(values, text_quantile, content)
    return Degraded(
        images * scaled,
        ids.masked_fill(content & ~kept, blank_token),
        torch.where(chosen, mean.view(-1, 1, 1), images),
        ids.masked_fill(removed, blank_token),
    )
