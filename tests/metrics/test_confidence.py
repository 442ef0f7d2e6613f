"""Confidence drop and increase on a dual encoder whose cosines are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from captum_ib.metrics import ConfidenceDrop, ConfidenceIncrease

PAD, BEGIN, END, BLANK, RED, ROUND = range(6)
TOKENS = {"special_tokens": (PAD, BEGIN, END), "blank_token": BLANK}


def halves(left: float, right: float) -> np.ndarray:
    """(1, 1, 2, 4): one value on the left half, one on the right."""
    return np.repeat([[left, right]], 2, 1).repeat(2, 0).reshape(1, 1, 2, 4).astype(np.float32)


def test_image_of_a_pair(dual):
    # Sums 3 and 4, a red text (1, 0): o = 0.6. Keeping the left only: s = 1. The right only: s = 0.
    x, ids = halves(0.75, 1.0), np.array([[BEGIN, RED, END]])
    for marked, drop, increase in ((halves(1, 0), 0.0, 100.0), (halves(0, 1), 60.0, 0.0)):
        metric = ConfidenceDrop()
        assert metric(dual, x, ids, marked) == pytest.approx([drop], abs=1e-4)
        assert metric.before == pytest.approx([0.6])
        assert metric.after == pytest.approx([1.0 if increase else 0.0], abs=1e-6)
        assert ConfidenceIncrease()(dual, x, ids, marked) == [increase]


def test_map_is_scaled_to_its_own_range(dual):
    x, ids = halves(0.75, 1.0), np.array([[BEGIN, RED, END]])
    # A map of 7 on the left and 5 on the right says the same as 1 and 0.
    assert ConfidenceDrop()(dual, x, ids, halves(7, 5)) == pytest.approx([0.0], abs=1e-4)


def test_in_pixel_space_what_the_map_leaves_out_turns_black(dual):
    # Input (x − 0.5)/0.25 of pixels 0.875 and 1: 1.5 and 2, o = 0.6. In pixel space the right half
    # becomes black, −2 in the input: s = 1.5/2.5, the sign does not help (1.5·1 − 2·0 over norm).
    x, ids = halves(1.5, 2.0), np.array([[BEGIN, RED, END]])
    metric = ConfidenceIncrease(mean=0.5, std=0.25)
    metric(dual, x, ids, halves(1, 0))
    assert metric.before == pytest.approx([0.6])
    assert metric.after == pytest.approx([0.6])
    plain = ConfidenceIncrease()
    plain(dual, x, ids, halves(1, 0))
    assert plain.after == pytest.approx([1.0])


def test_text_of_a_pair(dual):
    # Red and round against an image of left only: cos 45° = 0.7071; of red alone 1, of round 0.
    image, ids = halves(1, 0), np.array([[BEGIN, RED, ROUND, END, PAD]])
    right, wrong = np.array([[9.0, 2, 1, 9, 9]]), np.array([[9.0, 1, 2, 9, 9]])
    settings = {"modality": "text", **TOKENS}
    drop = ConfidenceDrop(**settings)
    assert drop(dual, ids, image, right) == pytest.approx([0.0], abs=1e-4)
    assert drop.after == pytest.approx([1.0])
    assert drop(dual, ids, image, wrong) == pytest.approx([70.7107], abs=1e-3)
    assert ConfidenceIncrease(**settings)(dual, ids, image, right) == [100.0]
    # Of three content tokens the better two stay: ⌈0.5 · 3⌉.
    three = np.array([[BEGIN, ROUND, RED, RED, END]])
    drop(dual, three, image, np.array([[0.0, 3, 2, 1, 0]]))
    assert drop.after == pytest.approx([np.sqrt(0.5)])


def test_a_classifier_scores_its_targets_probability():
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight[0] = torch.tensor([1.0, 1, 0, 0] * 2)
        model[1].weight[1] = torch.tensor([0.0, 0, 1, 1] * 2)
    # Logits 4 and 4 before: probability 0.5. Right half dark: 4 and 0, sigmoid(4) = 0.98201.
    metric = ConfidenceIncrease()
    assert metric(model, halves(1, 1), np.array([0]), halves(1, 0)) == [100.0]
    assert metric.before == pytest.approx([0.5])
    assert metric.after == pytest.approx([0.98201], abs=1e-5)


class TestBadInput:
    def test_constant_map(self, dual):
        x, ids = halves(0.75, 1.0), np.array([[BEGIN, RED, END]])
        with pytest.raises(ValueError, match="constant attribution"):
            ConfidenceDrop()(dual, x, ids, halves(1, 1))
        for metric in (ConfidenceDrop(undefined="nan"), ConfidenceIncrease(undefined="nan")):
            assert np.isnan(metric(dual, x, ids, halves(1, 1))).all()
            assert np.isnan(metric.after).all()

    def test_text_of_special_tokens_only(self, dual):
        ids = np.array([[BEGIN, RED, END], [BEGIN, END, PAD]])
        image = np.concatenate([halves(1, 0)] * 2)
        values = np.random.default_rng(0).random((2, 3))
        settings = {"modality": "text", **TOKENS}
        with pytest.raises(ValueError, match=r"special tokens only \(samples \[1\]"):
            ConfidenceDrop(**settings)(dual, ids, image, values)
        scores = ConfidenceDrop(**settings, undefined="nan")(dual, ids, image, values)
        assert np.isnan(scores).tolist() == [False, True]

    def test_text_needs_its_special_tokens(self, dual):
        with pytest.raises(ValueError, match="special_tokens= "):
            ConfidenceDrop(modality="text")(
                dual, np.array([[BEGIN, RED, END]]), halves(1, 0), np.ones((1, 3))
            )

    def test_modality(self, dual):
        with pytest.raises(
            ValueError, match=r"modality is one of \('image', 'text'\), given 'audio'"
        ):
            ConfidenceDrop(modality="audio")(
                dual, halves(1, 0), np.array([[BEGIN, RED, END]]), halves(1, 0)
            )

    @pytest.mark.parametrize(
        ("settings", "message"),
        [({"keep": 0.0}, "share of tokens"), ({"std": 1.0}, "belong together")],
    )
    def test_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            ConfidenceDrop(**settings)
