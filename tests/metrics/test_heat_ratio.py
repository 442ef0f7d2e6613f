"""EffectiveHeatRatio against closed forms and a plain loop over cuts and pixels."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from captum_ib.metrics import EffectiveHeatRatio


def score(attribution, mask, **settings) -> list[float]:
    x = np.zeros((len(attribution), 3, *attribution.shape[-2:]))
    return EffectiveHeatRatio(**settings)(None, x, np.zeros(len(x), int), attribution, mask)


def plain(attribution, mask, threshold=0.1, quantiles=11):
    """The definition, pixel by pixel."""
    low, high = attribution.min(), attribution.max()
    heat = [(value - low) / (high - low) for value in attribution.ravel()]
    kept = sorted(value for value in heat if value >= threshold)
    ratios = []
    for step in range(quantiles):
        place = step / (quantiles - 1) * (len(kept) - 1)
        below = int(place)
        above = min(below + 1, len(kept) - 1)
        cut = min(kept[below] + (place - below) * (kept[above] - kept[below]), 0.99)
        hot = [index for index, value in enumerate(heat) if value >= cut]
        ratios.append(sum(heat[index] for index in hot if mask.ravel()[index]) / len(hot))
    steps = [(a + b) / 2 / (quantiles - 1) for a, b in itertools.pairwise(ratios)]
    return sum(steps)


@pytest.mark.parametrize("settings", [{}, {"threshold": 0.4, "quantiles": 5}])
def test_equals_the_plain_loop(settings):
    draw = np.random.default_rng(3)
    maps, masks = draw.normal(size=(4, 1, 9, 7)), draw.random((4, 9, 7)) < 0.3
    expected = [plain(*pair, **settings) for pair in zip(maps, masks, strict=True)]
    np.testing.assert_allclose(score(maps, masks, **settings), expected, rtol=1e-12)


def test_heat_on_the_mask_alone_or_beside_it():
    mask = np.zeros((1, 1, 8, 8))
    mask[..., :3, :] = 1
    assert score(mask, mask) == [1.0]
    assert score(1 - mask, mask) == [0.0]


def test_half_of_the_heat_on_the_mask():
    # Two hot pixels of heat 1, one of them marked: a half at every cut.
    attribution = np.zeros((1, 1, 4, 4))
    attribution[..., 0, :2] = 5
    mask = np.zeros((1, 4, 4))
    mask[:, :, 0] = 1
    assert score(attribution, mask) == [0.5]


def test_samples_without_a_score():
    mask, ramp = np.ones((2, 4, 4)), np.arange(32.0).reshape(2, 1, 4, 4)
    mask[0] = 0
    found = score(ramp, mask, undefined="nan")
    assert np.isnan(found[0]) and found[1] == pytest.approx(plain(ramp[1], mask[1]))
    with pytest.raises(ValueError, match="an empty mask"):
        score(ramp, mask)
    with pytest.raises(ValueError, match="compares with masks; pass s_batch"):
        score(ramp, None)


@pytest.mark.parametrize("settings", [{"threshold": 0.0}, {"threshold": 1.5}, {"quantiles": 1}])
def test_settings_out_of_range(settings):
    with pytest.raises(ValueError, match="must be above 0 and at most 1|at least 2 quantiles"):
        EffectiveHeatRatio(**settings)
