"""From attribution maps to the importance of a bird's parts and of the objects around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Key = str | int  # a part's name, or the number of a background object


@dataclass(frozen=True)
class Importance:
    """What one attribution map says about one picture.

    Attributes:
        of: importance per part name and background object number.
        total: the sum of the whole attribution.
    """

    of: Mapping[Key, float]
    total: float

    def above(self, threshold: float, signed: bool = False) -> frozenset[Key]:
        """Keys with an importance above threshold · |total|, or, ``signed``, threshold · total."""
        bound = threshold * (self.total if signed else abs(self.total))
        return frozenset(key for key, value in self.of.items() if value > bound)

    def sum(self, keys: Sequence[Key] | frozenset[str]) -> float:
        """Summed importance of ``keys``."""
        return sum(self.of[key] for key in keys)


def part_weights(
    part_map: np.ndarray, colours: Mapping[Key, Sequence[tuple[int, int, int]]]
) -> dict[Key, Tensor]:
    """Pixels that count for each key: its colour's pixels, grown by a 5×5 maximum filter.

    Args:
        part_map: ``(H, W, 3)`` of bytes.
        colours: one or two colours per key; the halves of a part are dilated apart and then added,
            so a pixel that both reach counts twice.

    Returns:
        Per key a ``(H, W)`` tensor of bytes: 0, 1 or 2.
    """
    pixels = torch.from_numpy(part_map.astype(np.int32))
    # One number per colour: one comparison per mask instead of three.
    codes = (pixels[..., 0] * 256 + pixels[..., 1]) * 256 + pixels[..., 2]
    flat = [(key, (r * 256 + g) * 256 + b) for key, rgb in colours.items() for r, g, b in rgb]
    masks = torch.stack([codes == code for _, code in flat]).float()
    grown = F.max_pool2d(masks.unsqueeze(1), kernel_size=5, stride=1, padding=2).squeeze(1)
    grown = grown.to(torch.uint8)  # a data set's masks are kept: a quarter of the memory
    weights: dict[Key, Tensor] = {}
    for (key, _), mask in zip(flat, grown, strict=True):
        weights[key] = weights[key] + mask if key in weights else mask
    return weights


def importance(attribution: Tensor, weights: Mapping[Key, Tensor]) -> Importance:
    """Sum the attribution, over all channels, on the pixels of each key.

    Args:
        attribution: ``(C, H, W)`` or ``(H, W)``, of the picture's size.
        weights: from ``part_weights``.

    Raises:
        ValueError: the attribution has another size than the part map, or is not finite.
    """
    flat = attribution.detach().cpu().double()
    flat = flat.sum(0) if flat.ndim == 3 else flat
    shape = next(iter(weights.values())).shape
    if flat.shape != shape:
        raise ValueError(
            f"an attribution of shape {tuple(attribution.shape)} does not fit a picture of "
            f"{shape[0]}×{shape[1]}; upsample layer maps to the picture first"
        )
    if not torch.isfinite(flat).all():
        raise ValueError("the attribution holds NaN or infinity; part importances need numbers")
    stacked = torch.stack(list(weights.values())).double()
    sums = (stacked * flat).sum((1, 2)).tolist()
    return Importance(dict(zip(weights, sums, strict=True)), flat.sum().item())
