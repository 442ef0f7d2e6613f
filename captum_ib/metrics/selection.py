"""Which positions count as important, and what an input looks like without or with only those."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captum_ib.metrics.base import check_array


def above_quantile(values: Tensor, quantile: float, among: Tensor | None = None) -> Tensor:
    """The positions of each sample whose value is above the sample's quantile.

    "Above" is strict. Where the quantile is the sample's maximum itself (a plateau wider than
    1 − ``quantile``), nothing would be above it, and the plateau is taken instead: a map that is 1
    on an object and 0 elsewhere selects the object, however large the object is.

    Args:
        values: ``(N, P)``.
        quantile: in [0, 1), linear between order statistics.
        among: ``(N, P)`` of bool; only these positions are ranked and can be selected.

    Returns:
        ``(N, P)`` of bool. A sample with nothing to rank selects nothing.

    >>> above_quantile(torch.tensor([[0.0, 1.0, 2.0, 3.0]]), 0.5)
    tensor([[False, False,  True,  True]])
    """
    if not 0 <= quantile < 1:
        raise ValueError(f"a quantile lies in [0, 1), given {quantile}")
    ranked = values if among is None else values.masked_fill(~among, torch.nan)
    level = torch.nanquantile(ranked, quantile, dim=1, keepdim=True)
    highest = ranked.nan_to_num(-torch.inf).amax(1, keepdim=True)
    return torch.where(level < highest, ranked > level, ranked == highest) & ~ranked.isnan()


def content_tokens(ids: Tensor, special: Sequence[int], mask: Tensor | None = None) -> Tensor:
    """``(N, T)`` of bool: the tokens that are neither special nor masked out."""
    content = ~torch.isin(ids, torch.as_tensor(list(special), dtype=ids.dtype, device=ids.device))
    return content if mask is None else content & mask.bool()


def content_values(
    ids: Tensor,
    attributions: np.ndarray,
    special: Sequence[int] | None,
    blank: int | None,
    mask: Tensor | None,
    metric: str,
) -> tuple[Tensor, Tensor]:
    """Checked values of the tokens, float64, and which tokens are content; ``(N, T)`` each.

    Raises:
        ValueError: no ``special`` or ``blank`` ids; not one finite attribution per token.
    """
    if special is None or blank is None:
        raise ValueError(
            f"{metric} on text needs special_tokens= (ids that always stay) and blank_token= (the "
            "id that replaces a removed token)"
        )
    check_array("the attribution", attributions)
    if attributions.shape != tuple(ids.shape):
        raise ValueError(
            f"attribution of shape {attributions.shape} for tokens of shape {tuple(ids.shape)}; "
            "expected one value per token"
        )
    values = torch.as_tensor(attributions, dtype=torch.float64, device=ids.device)
    return values, content_tokens(ids, special, mask)


def top_tokens(values: Tensor, share: float, among: Tensor) -> Tensor:
    """The ⌈share · n⌉ best of the n positions in ``among``, per sample; ties go to the earlier one.

    >>> content = torch.tensor([[False, True, True, True]])
    >>> top_tokens(torch.tensor([[9.0, 1.0, 3.0, 2.0]]), 0.5, content)
    tensor([[False, False,  True,  True]])
    """
    if not 0 < share <= 1:
        raise ValueError(f"the share of tokens that stay lies in (0, 1], given {share}")
    order = values.masked_fill(~among, -torch.inf).argsort(dim=1, descending=True, stable=True)
    ranks = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    # 1e-9: 0.5 · 4 must not become 3 where the product is off by a rounding error.
    count = torch.ceil(share * among.sum(1, keepdim=True).double() - 1e-9)
    return (ranks < count) & among


def min_max(maps: Tensor) -> Tensor:
    """Each sample's map scaled to [0, 1]; a constant map becomes NaN, since it has no scale."""
    flat = maps.flatten(1)
    low, high = flat.amin(1), flat.amax(1)
    shape = (-1, *[1] * (maps.ndim - 1))
    return (maps - low.view(shape)) / (high - low).view(shape)


def united_masks(masks: np.ndarray | None, maps: Tensor, metric: str) -> Tensor:
    """Masks ``(N, H, W)``, or the union of ``(N, K, H, W)``, as ``(N, H·W)`` of bool.

    Raises:
        ValueError: there are none, or they are of another size than the maps ``(N, H, W)``.
    """
    if masks is None:
        raise ValueError(f"{metric} compares with masks; pass s_batch of (N, H, W)")
    marked = torch.from_numpy(np.asarray(masks) != 0)
    if marked.ndim == 4:
        marked = marked.any(1)
    if marked.shape != maps.shape:
        raise ValueError(
            f"s_batch of shape {np.shape(masks)} does not fit; expected (N, H, W) or "
            f"(N, K, H, W) with (N, H, W) = {tuple(maps.shape)}"
        )
    return marked.flatten(1)
