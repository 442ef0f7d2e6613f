"""Random masks for RISE: few bits each, blown up a few at a time."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class GridMasks:
    """Masks of an image, drawn once and kept as a small grid and a shift (Petsiuk et al., 3.2).

    A grid of s × s bits, 1 with probability p, is blown up to (s + 1) · cell pixels by bilinear
    interpolation, and cut out at a random shift of up to one cell.

    Attributes:
        bits: ``(M, s, s)``.
        shifts: ``(M, 2)``, rows and columns, in pixels.
        size: rows and columns of the image.
    """

    bits: Tensor
    shifts: Tensor
    size: tuple[int, int]

    @staticmethod
    def draw(
        count: int, grid: int, p: float, size: tuple[int, int], generator: torch.Generator
    ) -> GridMasks:
        """``count`` masks."""
        bits = torch.rand(count, grid, grid, generator=generator, dtype=torch.float32) < p
        cells = [math.ceil(side / grid) for side in size]
        shifts = torch.stack(
            [torch.randint(0, cell, (count,), generator=generator) for cell in cells], dim=1
        )
        return GridMasks(bits, shifts, size)

    def __len__(self) -> int:
        return len(self.bits)

    def part(self, rows: slice, device: torch.device) -> Tensor:
        """Some of the masks at full size, ``(K, H, W)``."""
        height, width = self.size
        grid = self.bits.shape[1]
        blown = [(grid + 1) * math.ceil(side / grid) for side in self.size]
        bits = self.bits[rows, None].to(device, torch.float32)
        big = F.interpolate(bits, blown, mode="bilinear", align_corners=False)[:, 0]
        shifts = self.shifts[rows].tolist()
        return torch.stack(
            [mask[y : y + height, x : x + width] for mask, (y, x) in zip(big, shifts, strict=True)]
        )


@dataclass(frozen=True)
class TokenMasks:
    """Masks of a sequence: one bit per token.

    Attributes:
        bits: ``(M, T)``.
    """

    bits: Tensor

    @staticmethod
    def draw(count: int, tokens: int, p: float, generator: torch.Generator) -> TokenMasks:
        """All 2^T masks where these are no more than ``count`` and p is ½, else random ones."""
        if p == 0.5 and 2**tokens <= count:
            every = list(itertools.product([False, True], repeat=tokens))
            return TokenMasks(torch.tensor(every))
        return TokenMasks(torch.rand(count, tokens, generator=generator, dtype=torch.float32) < p)

    def __len__(self) -> int:
        return len(self.bits)

    def part(self, rows: slice, device: torch.device) -> Tensor:
        """Some of the masks, ``(K, T)``."""
        return self.bits[rows].to(device, torch.float32)
