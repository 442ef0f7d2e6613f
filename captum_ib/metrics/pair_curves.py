"""Insertion and deletion of second order: patches and words come and go together (FIxLIP)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_ib.checks import broadcast, require_finite
from captum_ib.models.dual_encoder import DualEncoder


@dataclass(frozen=True)
class PairCurves:
    """What :func:`pair_insertion_deletion` found, per pair.

    Attributes:
        insertion: ``(N,)``, area under 100 · cosine while the tokens come; higher is better.
        deletion: ``(N,)``, the same while they go; lower is better.
        insertion_curves, deletion_curves: per pair ``(players + 1,)``, 100 · cosine by the number
            of tokens that came, or went.
    """

    insertion: np.ndarray
    deletion: np.ndarray
    insertion_curves: list[np.ndarray]
    deletion_curves: list[np.ndarray]

    @property
    def difference(self) -> np.ndarray:
        """Insertion minus deletion, ``(N,)``; higher is better."""
        return self.insertion - self.deletion


def pair_insertion_deletion(
    dual: DualEncoder,
    pair: tuple[Tensor, Tensor],
    interactions: Tensor,
    mask: Tensor | None = None,
    *,
    image_values: Tensor | None = None,
    word_values: Tensor | None = None,
    baseline: Any = 0.0,
    blank: int = 0,
    internal_batch_size: int = 64,
) -> PairCurves:
    """Insertion and deletion of second order (Baniecki et al., NeurIPS 2025).

    An explanation by interactions says of a set M of patches and words that it is worth
    Σ_{i∈M} e_i + Σ_{ik⊆M} e_ik. Insertion keeps, for each size, the set that is worth most,
    deletion the one that is worth least, both found greedily from all tokens: the token that
    contributes least (most) to those left goes next. Words and patches are in one order. A text's
    first and last valid token always stay.

    Args:
        dual: image first, text second.
        pair: pixels ``(N, C, H, W)`` and token ids ``(N, T)``.
        interactions: e_ik, ``(N, T, h, w)``, as ``interactions(...)`` of a method gives them.
        mask: valid tokens ``(N, T)``, if the model takes a mask.
        image_values, word_values: e_i, ``(N, 1, h, w)`` and ``(N, T)``; default 0.
        baseline: what removed patches become: a number, or what broadcasts to the pixels.
        blank: id that removed words become.
        internal_batch_size: rows per forward pass.

    Raises:
        ValueError: values of other shapes, NaN, or a pair without players.
    """
    pixels, ids = pair
    n, words, height, width = _checked(interactions, pair)
    single = torch.zeros(n, words + height * width, dtype=torch.float64)
    for given, part, shape in (
        (word_values, slice(0, words), (n, words)),
        (image_values, slice(words, None), (n, 1, height, width)),
    ):
        if given is not None:
            if tuple(given.shape) != shape:
                raise ValueError(f"values of shape {tuple(given.shape)}, expected {shape}")
            single[:, part] = given.detach().double().cpu().flatten(1)
    valid = dual.token_mask(dual.modalities[1], ids, mask)
    valid = torch.ones_like(ids, dtype=torch.bool) if valid is None else valid.bool()
    floor = broadcast(baseline, pixels, "the pixels")
    areas: list[tuple[float, float]] = []
    curves: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for i in range(n):
        game = _Game(dual, pixels[i], floor[i], ids[i], None if mask is None else mask[i], blank,
                     (height, width))  # fmt: skip
        between = interactions[i].detach().double().cpu().flatten(1)
        players = torch.cat([_content(valid[i]).cpu(), torch.ones(height * width).bool()])
        least_first = greedy_order(single[i], between, players, largest=False)
        most_first = greedy_order(single[i], between, players, largest=True)
        kept = game.curve(least_first, internal_batch_size)[::-1]  # from none to all
        gone = game.curve(most_first, internal_batch_size)
        for found, curve in zip(curves, (kept, gone), strict=True):
            found.append(np.ascontiguousarray(curve))
        areas.append((_area(kept), _area(gone)))
    insertion, deletion = (np.array(part) for part in zip(*areas, strict=True))
    return PairCurves(insertion, deletion, *curves)


def greedy_order(single: Tensor, between: Tensor, players: Tensor, *, largest: bool) -> list[int]:
    """In which order tokens leave: each time the one that contributes most, or least, to the rest.

    Args:
        single: e_i of words, then patches, ``(T + P,)``.
        between: e_ik, ``(T, P)``.
        players: which tokens may leave, ``(T + P,)`` of bool.
        largest: whether the largest contribution leaves first.

    >>> e = torch.tensor([[1.0, 0.0], [0.0, 3.0]], dtype=torch.float64)
    >>> greedy_order(torch.zeros(4, dtype=torch.float64), e, torch.ones(4).bool(), largest=True)
    [1, 0, 2, 3]
    """
    words = between.shape[0]
    worth = single + torch.cat([between.sum(dim=1), between.sum(dim=0)])
    sign = -1.0 if largest else 1.0
    left, order = players.clone(), []
    for _ in range(int(players.sum())):
        token = int(torch.where(left, sign * worth, torch.inf).argmin())
        order.append(token)
        left[token] = False
        if token < words:
            worth[words:] -= between[token]
        else:
            worth[:words] -= between[:, token - words]
    return order


@dataclass(frozen=True)
class _Game:
    """One pair, with some of its tokens taken away."""

    dual: DualEncoder
    pixels: Tensor
    floor: Tensor
    ids: Tensor
    mask: Tensor | None
    blank: int
    grid: tuple[int, int]

    @torch.no_grad()
    def curve(self, order: list[int], size: int) -> np.ndarray:
        """100 · cosine from all tokens to none, ``(players + 1,)``."""
        words = len(self.ids)
        seen = torch.ones(len(order) + 1, words + self.grid[0] * self.grid[1], dtype=torch.bool)
        for step, token in enumerate(order):
            seen[step + 1 :, token] = False
        scores: list[Tensor] = []
        for rows in seen.to(self.ids.device).split(size):
            patches = rows[:, words:].reshape(-1, 1, *self.grid).float()
            cover = torch.nn.functional.interpolate(patches, self.pixels.shape[1:], mode="nearest")
            images = torch.where(cover > 0, self.pixels, self.floor)
            texts = torch.where(rows[:, :words], self.ids, self.blank)
            masks = () if self.mask is None else (self.mask.expand(len(rows), -1),)
            scores.append(100 * self.dual(images, texts, *masks).double().cpu())
        return torch.cat(scores).numpy()


def _content(valid: Tensor) -> Tensor:
    """The valid tokens but the first and the last."""
    places = valid.nonzero().flatten()
    content = torch.zeros_like(valid)
    content[places[1:-1]] = True
    return content


def _area(curve: np.ndarray) -> float:
    return float(np.mean((curve[1:] + curve[:-1]) / 2))


def _checked(interactions: Tensor, pair: tuple[Tensor, Tensor]) -> tuple[int, int, int, int]:
    pixels, ids = pair
    fits = interactions.ndim == 4 and interactions.shape[:2] == ids.shape[:2]
    if pixels.ndim != 4 or ids.ndim != 2 or not fits:
        raise ValueError(
            f"interactions must be (N, T, h, w) for pixels {tuple(pixels.shape)} and token ids "
            f"{tuple(ids.shape)}, given {tuple(interactions.shape)}"
        )
    require_finite(interactions, "interactions")
    n, words, height, width = interactions.shape
    return n, words, height, width
