"""A map that is known to have collapsed has no strong colour, whatever its values are."""

from __future__ import annotations

import numpy as np
import pytest

from captum_ib.visualization import Passage, Style
from captum_ib.visualization.panels import Panel, Shown


@pytest.mark.parametrize(
    ("peak", "collapsed", "high"), [(1.2, True, 4.8), (1.2, None, 1.2), (0.3, True, 1.0)]
)
def test_colours_of_a_collapsed_map_reach_beyond_its_values(peak, collapsed, high):
    values = np.array([[0.9 * peak, peak], [peak, 0.8 * peak]])
    shown = Shown.of_map(Panel("M", values, collapsed=collapsed), Style())
    words = Shown.of_words(Passage("M", list("abcd"), values.ravel(), collapsed=collapsed), Style())
    assert shown.scale.high == pytest.approx(high) and words.scale.high == pytest.approx(high)
    assert (shown.remark != "") == (collapsed is True)
