"""LocalizationIoU against closed forms and the exact expectation of a random map."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest

from captum_ib.metrics import LocalizationIoU


def score(attribution, mask, **settings) -> list[float]:
    x = np.zeros((len(attribution), 3, *attribution.shape[-2:]))
    return LocalizationIoU(**settings)(None, x, np.zeros(len(x), int), attribution, mask)


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7])
def test_attribution_equal_to_the_mask(rows):
    # 12.5 % to 87.5 % of the image; from 25 % on the 75th percentile is the mask's own plateau.
    mask = np.zeros((1, 1, 8, 8))
    mask[:, :, :rows] = 1
    assert score(mask, mask) == [1.0]
    assert score(3 * mask - 1, mask) == [1.0]


def test_a_quarter_selected_half_of_it_inside():
    # 16 of 64 pixels selected, 8 of them on a mask of 32: 8/(16 + 32 − 8).
    attribution = np.arange(64.0).reshape(1, 1, 8, 8)
    mask = np.zeros((1, 8, 8))
    mask[:, 3:7] = 1
    assert score(attribution, mask) == [8 / 40]


def test_threshold_by_value():
    attribution = np.arange(64.0).reshape(1, 1, 8, 8)
    mask = attribution[:, 0] >= 32
    assert score(attribution, mask, value=31.0) == [1.0]
    assert score(attribution, mask, value=47.0) == [0.5]
    assert score(attribution, mask, value=63.0) == [0.0]  # nothing is above it


def test_several_masks_are_united():
    attribution = np.zeros((1, 1, 8, 8))
    attribution[..., 0], attribution[..., 5] = 1, 2
    masks = np.zeros((1, 2, 8, 8))
    masks[0, 0, :, 0], masks[0, 1, :, 5] = 1, 255
    assert score(attribution, masks) == [1.0]


def test_a_random_map_has_the_expectation_of_chance():
    # k = 64 of 256 selected, m = 40 marked; X is hypergeometric, the score X/(k + m − X).
    total, selected, marked = 256, 64, 40
    chance = [
        comb(marked, x) * comb(total - marked, selected - x) / comb(total, selected)
        for x in range(marked + 1)
    ]
    expected = sum(p * x / (selected + marked - x) for x, p in enumerate(chance))
    assert expected == pytest.approx(0.107183, abs=1e-6)
    mask = np.zeros((500, 256))
    mask[:, :marked] = 1
    noise = np.random.default_rng(0).random((500, 1, 16, 16))
    scores = np.array(score(noise, mask.reshape(500, 16, 16)))
    error = scores.std(ddof=1) / np.sqrt(500)
    assert abs(scores.mean() - expected) < 3 * error
    assert (scores.mean(), error) == pytest.approx((SEEDED_MEAN, SEEDED_ERROR), abs=1e-5)


SEEDED_MEAN, SEEDED_ERROR = 0.103909, 0.001323  # 2.5 errors below; seed 1: 0.107186


class TestBadInput:
    def test_empty_mask(self):
        noise = np.random.default_rng(0).random((2, 1, 8, 8))
        mask = np.ones((2, 8, 8))
        mask[1] = 0
        with pytest.raises(ValueError, match=r"an empty mask \(samples \[1\]"):
            score(noise, mask)
        values = score(noise, mask, undefined="nan")
        assert values[0] == 0.25
        assert np.isnan(values[1])

    def test_constant_map(self):
        with pytest.raises(ValueError, match="a constant attribution"):
            score(np.ones((1, 1, 8, 8)), np.ones((1, 8, 8)))

    def test_masks(self):
        noise = np.random.default_rng(0).random((1, 1, 8, 8))
        with pytest.raises(ValueError, match="pass s_batch"):
            score(noise, None)
        with pytest.raises(ValueError, match="does not fit"):
            score(noise, np.ones((1, 4, 4)))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [({"quantile": 0.5, "value": 1.0}, "not both"), ({"quantile": 1.0}, r"lies in \[0, 1\)")],
    )
    def test_threshold(self, settings, message):
        with pytest.raises(ValueError, match=message):
            LocalizationIoU(**settings)
