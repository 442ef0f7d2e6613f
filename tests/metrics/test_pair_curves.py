"""Insertion and deletion of second order on a pair of towers whose similarity is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captum_ib import DualEncoder
from captum_ib.metrics import pair_insertion_deletion
from captum_ib.models import Tower


class Marks(nn.Module):
    """Embeddings (2 matches, 1 rest): patch or word of mark m lights up axis m."""

    def forward(self, values):
        marks = values[:, 0, ::2, ::2].flatten(1) if values.ndim == 4 else values
        one_hot = nn.functional.one_hot(marks.long(), 6).sum(dim=1).float()
        return one_hot[:, 1:]


def dual() -> DualEncoder:
    marks = Marks()
    towers = [
        Tower(name, marks, pooled=lambda x, mask=None: marks(x), tokens=lambda x, mask=None: x)
        for name in ("image", "text")
    ]
    return DualEncoder(marks, towers)


# Patches of mark 1, 2 and none; words 4 (begin), 1, 2, 5 (end).
PIXELS = torch.tensor([[1.0, 2.0], [0.0, 0.0]]).repeat_interleave(2, 0).repeat_interleave(2, 1)
PAIR = (PIXELS.reshape(1, 1, 4, 4), torch.tensor([[4, 1, 2, 5]]))


def test_the_true_interactions_by_hand():
    """Tokens 1 match patch 0, tokens 2 patch 1; two patches show nothing."""
    true = torch.zeros(1, 4, 2, 2)
    true[0, 1, 0, 0], true[0, 2, 0, 1] = 2.0, 1.0
    found = pair_insertion_deletion(dual(), PAIR, true)
    # Cosine of (1, 1, 0, 1, 1) of the text and (1, 1, 0, 0, 0) of the image, whole: 2 / √(4 · 2).
    whole = 100 / np.sqrt(2)
    # Insertion: nothing; the patch, then the word of mark 1 (its tokens leave last); …
    insertion = found.insertion_curves[0]
    assert len(insertion) == 7 and insertion[0] == 0 and np.isclose(insertion[-1], whole)
    pair_of_1 = 100 / np.sqrt(3)  # words begin, 1, end with patch 1
    assert np.isclose(insertion[2], pair_of_1)
    # Deletion: the word of mark 1 goes first, then that of mark 2, which leaves no match.
    expected = [whole, 100 / np.sqrt(3 * 2), 0, 0, 0, 0, 0]
    assert np.allclose(found.deletion_curves[0], expected)
    assert np.isclose(found.deletion[0], (whole / 2 + 100 / np.sqrt(6)) / 6)
    assert np.isclose(found.difference[0], found.insertion[0] - found.deletion[0])
    wrong = pair_insertion_deletion(dual(), PAIR, -true)
    assert wrong.difference[0] < 0 < found.difference[0]


def test_values_of_single_tokens_count():
    none = torch.zeros(1, 4, 2, 2)
    words = torch.tensor([[0.0, 3.0, 1.0, 0.0]])
    image = torch.tensor([[[[2.0, 0.0], [0.0, 0.0]]]])
    found = pair_insertion_deletion(dual(), PAIR, none, image_values=image, word_values=words)
    # Word 1, then patch 0, then word 2 go: 1/√2 → 1/√6 → (begin, 2, end · patch 1) → none.
    start = [100 / np.sqrt(2), 100 / np.sqrt(6), 100 / np.sqrt(3), 0]
    assert np.allclose(found.deletion_curves[0][:4], start)


def test_batches_do_not_matter_and_shapes_are_checked():
    true = torch.rand(1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    one = pair_insertion_deletion(dual(), PAIR, true)
    other = pair_insertion_deletion(dual(), PAIR, true, internal_batch_size=2)
    assert np.allclose(one.insertion, other.insertion)
    with pytest.raises(ValueError, match=r"interactions must be \(N, T, h, w\)"):
        pair_insertion_deletion(dual(), PAIR, true[:, :2])
    with pytest.raises(ValueError, match="values of shape"):
        pair_insertion_deletion(dual(), PAIR, true, word_values=torch.zeros(1, 3))
    with pytest.raises(ValueError, match="NaN"):
        pair_insertion_deletion(dual(), PAIR, true * torch.nan)
