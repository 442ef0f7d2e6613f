"""The radar plot draws the eight scores that it was given."""

from __future__ import annotations

import numpy as np
import pytest

from captum_ib.metrics import evaluate_funnybirds, plot_radar


def test_radar(tree, model, oracle, tmp_path):
    scores = evaluate_funnybirds(model, oracle, tree)
    figure = plot_radar({"oracle": scores, "again": scores}, tmp_path / "radar.pdf")
    axes = figure.axes[0]
    # accuracy, background independence, CSDC, PC, DC, D, SD, TS, and back to the first.
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [1, 0.5, 1, 1, 0.75, 1, 1, 1, 1])
    assert axes.get_ylim() == (0, 1)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "oracle (total 0.99)",
        "again (total 0.99)",
    ]
    assert (tmp_path / "radar.pdf").stat().st_size > 1000
    assert len(scores.plot(label="oracle").axes[0].lines) == 1


def test_how_many(tree, model, oracle):
    scores = evaluate_funnybirds(model, oracle, tree)
    with pytest.raises(ValueError, match="1 to 8 explanations, given 0"):
        plot_radar({})
    with pytest.raises(ValueError, match="1 to 8 explanations, given 9"):
        plot_radar({str(i): scores for i in range(9)})
