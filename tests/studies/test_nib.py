"""The studies of NIB: what they compute, against the methods called by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("yaml", reason="PyYAML is not installed")

import pandas as pd

from captum_ib.attr import NIB
from captum_ib.benchmark import preset
from captum_ib.benchmark.config import DataConfig
from captum_ib.studies import nib_scores, nib_settings, nib_theorem
from captum_ib.studies.material import gather

PAPER = ["drop_image", "increase_image", "drop_text", "increase_text"]
DROPS = {name: nib_scores.METRICS[name] for name in ("drop_image", "drop_text")}


@pytest.fixture(scope="module")
def material():
    return gather("zoo:clip-scenes", DataConfig("scenes", options={"seed": 1_000_003}), samples=3)


@pytest.fixture(autouse=True)
def two_scores(monkeypatch):
    monkeypatch.setattr(nib_scores, "METRICS", DROPS)


def test_noise_comes_in_opposite_pairs_and_scales_with_sigma():
    small = list(nib_theorem.noises([(2, 3), (4,)], 0.01, 3, seed=1))
    large = list(nib_theorem.noises([(2, 3), (4,)], 1.0, 3, seed=1))
    assert [tuple(one.shape) for one in small[0]] == [(1, 2, 3), (1, 4)]
    assert len(small) == 4
    for one, other in ((0, 1), (2, 3)):
        assert all(torch.equal(a, -b) for a, b in zip(small[one], small[other], strict=True))
    for one, other in zip(small, large, strict=True):
        torch.testing.assert_close(one[0] * 10, other[0])


def test_distances_leave_out_what_does_not_count():
    found = torch.tensor([[3.0, 4.0, 99.0], [1.0, 2.0, 0.0]])
    exact = torch.tensor([[0.0, 1.0, -1.0], [2.0, 1.0, 7.0]])
    counts = torch.tensor([[True, True, False]] * 2)
    gap, r = nib_theorem.distances(found, exact, counts)
    np.testing.assert_allclose(gap, [18.0**0.5, (2.0 / 5.0) ** 0.5])
    np.testing.assert_allclose(r, [1.0, -1.0])


def test_the_noisy_path_is_the_mean_of_nib_from_every_draw(material):
    batch = material.batches[-1]
    found = nib_theorem.noisy_maps(material.model, batch, 0.1, seed=5)
    nib, pair = NIB(material.model), (batch.pixels, batch.input_ids)
    given = {"additional_forward_args": batch.mask}
    shapes = [one.shape[1:] for one in nib.attribute(pair, n_steps=2, reduce="none", **given)]
    starts = nib_theorem.noises(shapes, 0.1, nib_theorem.DRAWS, 5)
    each = [nib.attribute(pair, start, **given) for start in starts]
    assert len(each) == 4
    torch.testing.assert_close(found.image, sum(image for image, _ in each) / 4)
    torch.testing.assert_close(found.text, sum(text for _, text in each) / 4)


def test_the_gap_to_nib_falls_with_the_variance(material):
    # ε and −ε cancel what is odd in ε; what is left goes with σ².
    exact, gaps = material.explain("nib"), []
    for variance in (1e-3, 1e-4):
        maps = [
            nib_theorem.noisy_maps(material.model, batch, variance, 0)
            for batch in nib_scores.pairs_of(material)
        ]
        gaps.append(nib_theorem.compared(material, maps, exact))
    for side in ("gap image", "gap text"):
        np.testing.assert_allclose(gaps[0][side] / gaps[1][side], 10.0, rtol=0.1)
        assert gaps[1][side].max() < 3e-3


def test_steps_are_those_of_the_table(material, monkeypatch):
    monkeypatch.setattr(nib_settings, "STEPS", (5, 10))
    found = nib_settings.steps(material)
    table = found.tables["steps"]
    assert table["steps"].tolist() == [5, 10]
    own = material.score(material.explain("nib", n_steps=5), "drop_image")
    assert table["drop_image"][0] == pytest.approx(own.mean(), rel=1e-6)
    assert table["drop_image ±"][0] == pytest.approx(own.std(ddof=1) / 3**0.5, rel=1e-6)
    other = material.score(material.explain("nib"), "drop_image")
    assert f"{(own - other).mean():+.2f}" in found.said[0]


def test_layers_lie_at_the_papers_share_of_the_depth(material):
    found = nib_settings.layers(material)
    table = found.tables["layers"]
    assert [name.split(".")[-1] for name in table["image"]] == ["2", "4", "6"]  # of 8
    assert [name.split(".")[-1] for name in table["text"]] == ["1", "3", "4"]  # of 6
    own = material.score(material.explain("nib"), "drop_text", blank="a")
    assert table["drop_text"][2] == pytest.approx(np.nanmean(own), rel=1e-6)


def test_beta_stands_beside_nib_which_has_none(material, monkeypatch):
    monkeypatch.setattr(nib_settings, "BETAS", (0.1, 1.0))
    table = nib_settings.beta(material).tables["beta"]
    assert table["method"].tolist() == ["M2IB", "M2IB", "NIB"]
    own = material.score(material.explain("m2ib"), "drop_image")  # β = 0.1
    assert table["drop_image"][0] == pytest.approx(own.mean(), rel=1e-6)
    nib = material.score(material.explain("nib"), "drop_image")
    assert table["drop_image"][2] == pytest.approx(nib.mean(), rel=1e-6)


def test_a_classifier_has_no_pairs():
    vit = gather("zoo:vit-scenes", DataConfig("scenes"), samples=1)
    for study in (nib_theorem.theorem, nib_settings.steps, nib_settings.layers, nib_settings.beta):
        with pytest.raises(ValueError, match="explains pairs of an image and a text"):
            study(vit)


def test_a_chart_draws_the_numbers_of_its_table():
    table = pd.DataFrame({"σ²": [0.01, 0.1], "gap": [1.0, 3.0], "gap ±": [0.1, 0.2]})
    axes = nib_scores.chart(table, "σ²", ["gap"], logarithmic="xy").axes[0]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert axes.lines[0].get_xydata().tolist() == [[0.01, 1.0], [0.1, 3.0]]


def test_table_2_has_the_papers_scores_and_methods():
    (run,) = preset("nib-table-2")
    assert [line.metric for line in run.metrics] == PAPER
    assert {"m2ib", "rise", "layergradcam", "genericattention", "mfaba", "fastig", "nib"} < {
        line.method for line in run.methods
    }
