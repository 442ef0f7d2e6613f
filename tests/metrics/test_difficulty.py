"""Difficulty-aware bins by hand."""

from __future__ import annotations

import numpy as np
import pytest

from captum_ib.metrics import difficulty_bins


def test_twenty_bins_of_equal_width():
    confidence = np.array([0.0, 0.049, 0.05, 0.97, 1.0])
    scores = np.array([1.0, 3.0, 7.0, 10.0, 20.0])
    found = difficulty_bins(scores, confidence)
    assert found.bin.tolist() == [0, 0, 1, 19, 19]
    assert found.count.tolist() == [2, 1, *[0] * 17, 2]
    assert (found.mean[0], found.mean[1], found.mean[19]) == (2.0, 7.0, 15.0)
    assert found.error[0] == pytest.approx(1.0)  # std √2 over √2
    assert np.isnan(found.error[1])
    assert np.isnan(found.mean[2:19]).all()


def test_bins_of_equal_count():
    confidence = np.array([1.0, 2.0, 30.0, 400.0])
    found = difficulty_bins(np.arange(4.0), confidence, bins=2, binning="quantile")
    assert found.bin.tolist() == [0, 0, 1, 1]
    np.testing.assert_allclose(found.edges, [1.0, 16.0, 400.0])


def test_undefined_scores_are_left_out():
    found = difficulty_bins(np.array([1.0, np.nan]), np.array([0.5, 0.5]), bins=1)
    assert (found.mean.tolist(), found.count.tolist()) == ([1.0], [1])


@pytest.mark.parametrize(
    ("confidence", "settings", "message"),
    [
        ([0.5], {}, "one score and one confidence"),
        ([0.5, np.nan], {}, "NaN"),
        ([0.5, 1.5], {}, r"outside \[0, 1\]"),
        ([0.5, 0.5], {"bins": 0}, "at least 1"),
        ([0.5, 0.5], {"binning": "log"}, '"width" or "quantile"'),
    ],
)
def test_bad_input(confidence, settings, message):
    with pytest.raises(ValueError, match=message):
        difficulty_bins(np.zeros(2), np.array(confidence), **settings)
