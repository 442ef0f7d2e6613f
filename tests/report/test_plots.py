"""Figures of a report: their numbers, and what they leave out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from captum_ib.report import plots, read_tables
from tests.report.folders import Folder, blob


def table_of(folder):
    (table,) = read_tables([folder])
    return table


def test_mean_curves_over_samples(tmp_path):
    """Curves (0, i, 1): mean (0, 3.5, 1) and error (0, √(6/8), 0), whatever the chunks."""
    folder = Folder(config={"batch_size": 3, "seeds": [0, 1]}).write(tmp_path, join=False)
    found = plots.sample_curves(table_of(folder).group, "insertion")
    assert list(found) == ["CoIBA", "NIB"]
    curves = found["NIB"]
    assert len(curves) == 8  # a sample counts once, not once per seed
    np.testing.assert_allclose(curves.mean(0), [0, 3.5, 1], rtol=1e-12)
    error = curves.std(0, ddof=1) / math.sqrt(8)
    np.testing.assert_allclose(error, [0, math.sqrt(6 / 8), 0], rtol=1e-12)


def test_curves_are_drawn_with_their_error(tmp_path):
    table = table_of(Folder().write(tmp_path))
    (figure,) = [figure for name, figure in plots.figures(table) if name == "curves-insertion"]
    axes = figure.axes[0]
    assert axes.get_title() == "Insertion"
    np.testing.assert_allclose(axes.lines[0].get_ydata(), [0, 3.5, 1], atol=1e-12)
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(3.5 + math.sqrt(6 / 8))


def test_failed_samples_have_no_curve(tmp_path):
    folder = Folder(fails=[(7, "NIB")]).write(tmp_path)
    found = plots.sample_curves(table_of(folder).group, "insertion")
    assert len(found["CoIBA"]) == 8 and len(found["NIB"]) == 7
    assert found["NIB"][:, 1].mean() == pytest.approx(3.0)


def test_difficulty_prefers_insdel_and_bins_by_confidence(tmp_path):
    """Confidence is (i mod 10)/10; scores equal it, so every bin's mean is its confidence."""
    folder = Folder(
        config={"samples": 40, "metrics": ["deletion", "insdel"]},
        score=lambda index, *_: (index % 10) / 10,
    ).write(tmp_path)
    (figure,) = [f for name, f in plots.figures(table_of(folder)) if name == "difficulty"]
    axes = figure.axes[0]
    assert axes.get_ylabel() == "ΔInsDel ↑"
    drawn = axes.containers[0][0]
    lows = np.arange(8) / 8  # forty samples make eight bins
    means = [np.mean([i / 10 for i in range(10) if low <= i / 10 < low + 1 / 8]) for low in lows]
    np.testing.assert_allclose(drawn.get_ydata(), means, atol=1e-12)


def test_no_difficulty_without_enough_samples(tmp_path):
    names = [name for name, _ in plots.figures(table_of(Folder().write(tmp_path)))]
    assert names == ["curves-insertion", "curves-deletion", "agreement", "throughput"]


def test_maps_of_the_same_samples_in_one_size(tmp_path):
    folder = Folder(fails=[(2, "NIB")], shape={"CoIBA": (40, 40)}).write(tmp_path)
    maps = plots.picked_maps(table_of(folder).group, ["CoIBA", "NIB"])
    assert {values.shape for values in maps.values()} == {(7, 40, 40)}
    third = blob(3, 0, 40, 40, signed=False).reshape(40, 40)
    np.testing.assert_allclose(maps["CoIBA"][2], third, rtol=1e-6)  # sample 2 is left out


def test_at_most_so_many_maps_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(plots, "COMPARED", 3)
    group = table_of(Folder().write(tmp_path)).group
    one, again, other = (plots.picked_maps(group, ["NIB"], seed)["NIB"] for seed in (0, 0, 1))
    assert one.shape == (3, 28, 28)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_layers_of_one_method_are_compared(tmp_path):
    methods = [
        {"method": "iba", "label": f"IBA {layer}", "settings": {"layer": layer}}
        for layer in ("blocks.2", "blocks.5")
    ]
    table = table_of(Folder(config={"methods": [*methods, "nib"]}).write(tmp_path))
    assert plots.layer_families(table.group) == {
        "iba": {"IBA blocks.2": "blocks.2", "IBA blocks.5": "blocks.5"}
    }
    figures = dict(plots.figures(table))
    axes = figures["agreement-layers-iba"].axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["blocks.2", "blocks.5"]
    # both labels were given the same maps
    np.testing.assert_allclose(axes.images[0].get_array(), np.ones((2, 2)), atol=1e-12)
    assert figures["agreement"].axes[0].images[0].get_array().shape == (3, 3)


def test_throughput(tmp_path):
    figure = dict(plots.figures(table_of(Folder().write(tmp_path))))["throughput"]
    assert [bar.get_width() for bar in figure.axes[0].patches] == [2.0, 2.0]
    assert figure.axes[0].get_xscale() == "log"


def test_curves_of_different_lengths_are_refused(tmp_path):
    Folder(config={"methods": ["coiba"]}).write(tmp_path / "a")
    longer = Folder(config={"methods": ["nib"]})
    longer.row = lambda *args: {  # pyright: ignore
        **Folder.row(longer, *args), "curve:insertion": [0.0, 1.0, 1.0, 1.0],
    }  # fmt: skip
    longer.write(tmp_path / "b")
    with pytest.raises(ValueError, match="have 3 and 4 points"):
        plots.sample_curves(table_of(tmp_path).group, "insertion")


def test_a_method_s_curves_are_those_of_the_first_run(tmp_path):
    Folder(config={"methods": ["nib"]}).write(tmp_path / "a")
    again = Folder(config={"methods": ["nib"], "seeds": [1]})
    again.row = lambda *args: {  # pyright: ignore
        **Folder.row(again, *args), "curve:insertion": [0.0, 99.0, 1.0],
    }  # fmt: skip
    again.write(tmp_path / "b")
    curves = plots.sample_curves(table_of(tmp_path).group, "insertion")["NIB"]
    assert curves[:, 1].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
