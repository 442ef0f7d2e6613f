"""Interactions between the tokens of a pair, as maps per word and as sums per side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_ib.layout import TokenLayout


@dataclass(frozen=True)
class Interactions:
    """Values between all tokens of two sides.

    Attributes:
        values: ``(N, T, P)``, all tokens of the words' side × all of the image's, prefix tokens
            included; rows of padding are 0.
        words, image: where the tokens of rows and columns lie.
        words_first: whether the words are the first modality of the pair.
        valid: words that count, ``(N, T)``; ``None``: all.
        delta: Σ of the values minus what it stands for, ``(N,)``.
    """

    values: Tensor
    words: TokenLayout
    image: TokenLayout
    words_first: bool
    valid: Tensor | None
    delta: Tensor

    @staticmethod
    def joined(parts: Sequence[Interactions]) -> Interactions:
        """Those of some of the samples each, as one."""
        whole = torch.cat([part.values for part in parts])
        delta = torch.cat([part.delta for part in parts])
        masks = [part.valid for part in parts]
        valid = None if masks[0] is None else torch.cat([one for one in masks if one is not None])
        return replace(parts[0], values=whole, valid=valid, delta=delta)


def word_maps(found: Interactions) -> Tensor:
    """A map per word, ``(N, T, h, w)``; ``(N, T, T')`` where neither side has a grid."""
    n, words = found.values.shape[:2]
    maps = shaped(found.values.flatten(0, 1), found.image)
    return (maps.squeeze(1) if found.image.spatial else maps).unflatten(0, (n, words))


def marginals(found: Interactions) -> tuple[Tensor, Tensor]:
    """Per token the sum over the other side, in the order of the pair."""
    image = shaped(found.values.sum(dim=1), found.image)
    words = shaped(found.values.sum(dim=2), found.words)
    return (words, image) if found.words_first else (image, words)


def shaped(values: Tensor, layout: TokenLayout) -> Tensor:
    """Values of all tokens ``(N, T)`` → ``(N, 1, h, w)`` without prefix tokens, or ``(N, T)``."""
    grid = layout.grid if layout.spatial else None
    return layout.attribution(layout.arrange(values.unsqueeze(-1), grid))
