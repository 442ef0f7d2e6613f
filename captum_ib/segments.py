"""Sums of a map over segments of the picture, or over words: as Captum's masks name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

__all__ = ["per_segment"]


def per_segment(attribution: Tensor, mask: Tensor | Sequence[Tensor]) -> Tensor:
    """How much of a map lies in each segment: bits per segment, where the map is in bits.

    Each value of the map is spread evenly over the part of the picture that its position covers,
    so where every pixel has one segment the sum over the segments is the sum of the map, whatever
    the two sizes are.

    Args:
        attribution: ``(N, 1, h, w)`` or ``(1, h, w)``, of pictures; ``(N, T)`` or ``(T,)``, of
            texts.
        mask: the number of each pixel's segment, ``(H, W)`` of ints, as Captum's ``feature_mask``
            and ``ImageMaskInput(mask=…)``; or a list of masks ``(H, W)`` of bool, which may overlap
            (``mask_list=…``). It covers what the model sees, in any size. For texts ``(T,)``: the
            number of each token's word.

    Returns:
        ``(N, segments)``, in the order of the numbers, or of the list; float64.

    Raises:
        TypeError: a map or a mask of another kind.
        ValueError: sizes that don't fit.

    >>> bits = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    >>> left_and_right = torch.tensor([[0, 0, 7, 7]])
    >>> per_segment(bits, left_and_right)
    tensor([[4., 6.]], dtype=torch.float64)
    >>> per_segment(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 1, 1]))
    tensor([[1., 6.]], dtype=torch.float64)
    """
    if not isinstance(cast(object, attribution), Tensor) or not attribution.is_floating_point():
        kind = attribution.dtype if isinstance(attribution, Tensor) else type(attribution).__name__
        raise TypeError(f"attribution must be a tensor of floats, given {kind}")
    parts = _parts(mask).to(attribution.device)  # (S, …)
    values = attribution.detach().double()
    if parts.ndim == 3:
        maps = _pictures(values)
        rows, columns = (
            _spread(cells, pixels).to(values.device)
            for cells, pixels in zip(maps.shape[1:], parts.shape[1:], strict=True)
        )
        return torch.einsum("nij,iy,jx,syx->ns", maps, rows, columns, parts)
    values = values if values.ndim > 1 else values[None]
    if values.ndim != 2 or values.shape[1] != parts.shape[1]:
        raise ValueError(
            f"a mask of {parts.shape[1]} tokens does not fit a map of shape "
            f"{tuple(attribution.shape)}: expected (N, {parts.shape[1]}); a picture's mask has "
            "shape (H, W)"
        )
    return values @ parts.T


def _pictures(values: Tensor) -> Tensor:
    """Maps ``(N, h, w)``."""
    if values.ndim == 4 and values.shape[1] == 1:
        return values[:, 0]
    if values.ndim == 3 and values.shape[0] == 1:
        return values
    raise ValueError(
        f"a map of shape {tuple(values.shape)} is none of pictures: expected (N, 1, h, w) or "
        "(1, h, w); of texts the mask has shape (T,)"
    )


def _parts(mask: object) -> Tensor:
    """One mask per segment, ``(S, H, W)`` or ``(S, T)``, of 0 and 1."""
    if isinstance(mask, (list, tuple)):
        given = cast("Sequence[object]", mask)
        masks = [one for one in given if isinstance(one, Tensor)]
        if not masks or len(masks) != len(given):
            raise TypeError("mask must be a tensor, or a list of tensors with one mask each")
        if len({one.shape for one in masks}) > 1 or masks[0].ndim not in (1, 2):
            raise ValueError(
                f"the masks must all be (H, W), or (T,), given {[tuple(m.shape) for m in masks]}"
            )
        return torch.stack([one.bool() for one in masks]).double()
    if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.is_complex():
        kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask must hold the numbers of segments, ints, given {kind}")
    mask = mask.squeeze(0) if mask.ndim == 3 else mask  # Captum's feature_mask: (1, H, W)
    if mask.ndim not in (1, 2) or mask.numel() == 0:
        raise ValueError(
            f"mask must have shape (H, W), or (T,) for texts, given {tuple(mask.shape)}"
        )
    return torch.stack([mask == number for number in mask.unique()]).double()


def _spread(cells: int, pixels: int) -> Tensor:
    """Which share of a cell each pixel has, along one side: ``(cells, pixels)``, rows sum to 1."""
    edges = torch.arange(pixels + 1, dtype=torch.float64) * cells / pixels
    start = torch.arange(cells, dtype=torch.float64).unsqueeze(1)
    low, high = edges[:-1].clamp(min=start), edges[1:].clamp(max=start + 1)
    return (high - low).clamp_min(0)
