"""Which positions count as important."""

from __future__ import annotations

import pytest
import torch

from captum_ib.metrics.selection import above_quantile, content_tokens, min_max, top_tokens


def test_above_a_quantile_is_strict():
    assert above_quantile(torch.arange(4.0)[None], 0.75).tolist() == [[False, False, False, True]]
    assert above_quantile(torch.arange(5.0)[None], 0.75).tolist() == [[False] * 4 + [True]]


def test_a_plateau_at_the_top_is_taken_whole():
    assert above_quantile(torch.tensor([[0.0, 1, 1, 1]]), 0.5).tolist() == [
        [False, True, True, True]
    ]


def test_only_some_positions_are_ranked():
    values, among = (
        torch.tensor([[9.0, 1, 2, 3, 4]]),
        torch.tensor([[False, True, True, True, True]]),
    )
    assert above_quantile(values, 0.5, among).tolist() == [[False, False, False, True, True]]
    assert not above_quantile(values, 0.5, torch.zeros(1, 5, dtype=torch.bool)).any()


def test_content_and_its_better_half():
    ids = torch.tensor([[1, 5, 6, 7, 2, 0]])
    content = content_tokens(ids, (0, 1, 2))
    assert content.tolist() == [[False, True, True, True, False, False]]
    masked = content_tokens(ids, (1, 2), torch.tensor([[1, 1, 1, 0, 1, 1]]))
    assert masked.tolist() == [[False, True, True, False, False, True]]
    values = torch.tensor([[9.0, 1, 3, 3, 9, 9]])
    assert top_tokens(values, 0.5, content).tolist() == [[False, False, True, True, False, False]]
    assert top_tokens(values, 1 / 3, content).tolist() == [
        [False, False, True, False, False, False]
    ]


def test_scaled_maps():
    maps = torch.tensor([[[2.0, 4], [3, 2]], [[5, 5], [5, 5]]])
    scaled = min_max(maps)
    assert scaled[0].tolist() == [[0, 1], [0.5, 0]]
    assert scaled[1].isnan().all()


def test_bad_shares():
    with pytest.raises(ValueError, match=r"\[0, 1\), given 1"):
        above_quantile(torch.zeros(1, 2), 1.0)
    with pytest.raises(ValueError, match=r"\(0, 1\], given 0"):
        top_tokens(torch.zeros(1, 2), 0.0, torch.ones(1, 2, dtype=torch.bool))
