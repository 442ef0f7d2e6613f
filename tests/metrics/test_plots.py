"""Figures: what they draw, where they save, and that they leave matplotlib as it was."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt

from captum_ib.metrics import (
    difficulty_bins,
    layer_agreement,
    layer_winners,
    plot_curves,
    plot_difficulty,
)

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def matplotlib_as_it_was():
    before = dict(mpl.rcParams)
    yield
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


@pytest.mark.parametrize("ending", ["pdf", "svg", "png"])
def test_curves(tmp_path, ending):
    rows = np.array([[0.0, 2.0, 4.0], [2.0, 4.0, 6.0], [np.nan] * 3])
    figure = plot_curves({"IBA": rows, "random": rows[:1]}, tmp_path / f"curves.{ending}")
    first, second = figure.axes[0].lines
    np.testing.assert_allclose(first.get_xdata(), [0, 0.5, 1])
    np.testing.assert_allclose(first.get_ydata(), [1, 3, 5])
    np.testing.assert_allclose(second.get_ydata(), [0, 2, 4])
    (band,) = figure.axes[0].collections  # one sample alone has no standard error
    assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(6.0)  # 5 + √2/√2
    assert (tmp_path / f"curves.{ending}").stat().st_size > 1000
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == [
        "IBA",
        "random",
    ]


def test_text_in_a_pdf_stays_text(tmp_path):
    plot_curves({"IBA": RNG.random((3, 4))}, tmp_path / "curves.pdf")
    assert b"/Type3" not in (tmp_path / "curves.pdf").read_bytes()


def test_difficulty():
    result = difficulty_bins(np.array([1.0, 3.0, 5.0]), np.array([0.1, 0.1, 0.9]), bins=4)
    figure = plot_difficulty({"IBA": result}, ylabel="insertion")
    line = figure.axes[0].lines[0]
    np.testing.assert_allclose(line.get_xydata(), [[0.125, 2.0], [0.875, 5.0]])
    assert figure.axes[0].get_ylabel() == "insertion"


def test_agreement_and_winners(tmp_path):
    found = layer_agreement({"a": RNG.random((3, 8, 8)), "b": RNG.random((3, 8, 8))})
    for kind in ("ssim", "cka"):
        figure = found.plot(tmp_path / f"{kind}.pdf", kind=kind)
        np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), getattr(found, kind))
    winners = layer_winners({"a": np.array([1.0, 0, 1]), "b": np.array([0.0, 1, 0])})
    heights = [bar.get_height() for bar in winners.plot().axes[0].patches]
    np.testing.assert_allclose(heights, [200 / 3, 100 / 3])


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no curves to plot"):
        plot_curves({})
    with pytest.raises(ValueError, match="no sample without NaN"):
        plot_curves({"IBA": np.full((2, 3), np.nan)})
    with pytest.raises(ValueError, match=r"has shape \(3,\)"):
        plot_curves({"IBA": np.zeros(3)})
    with pytest.raises(ValueError, match="no results to plot"):
        plot_difficulty({})
