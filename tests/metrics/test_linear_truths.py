"""μFidelity and the completeness error, where a linear model says what they must be."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from captum_ib.metrics import CompletenessError, MuFidelity

RAW = {"softmax": False}


@pytest.fixture
def linear():
    """f(x) = w · x + b, its inputs, and its terms w ⊙ x, which any complete method gives."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)).eval()
    x = torch.rand(3, 3, 8, 8)
    w = model[1].weight.detach()[0].view(1, 3, 8, 8)
    return model, x.numpy(), np.zeros(3, int), (w * x).numpy()


def test_the_terms_of_a_linear_model_are_faithful(linear):
    model, x, y, terms = linear
    for correlation in ("pearson", "spearman"):
        metric = MuFidelity(grid=4, draws=30, correlation=correlation)
        assert metric(model, x, y, terms, **RAW) == pytest.approx([1.0] * 3, abs=1e-5)
        assert metric(model, x, y, -terms, **RAW) == pytest.approx([-1.0] * 3, abs=1e-5)


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_mu_fidelity_against_a_plain_loop(vit, images, targets, maps, correlation):
    metric = MuFidelity(grid=4, share=0.25, draws=12, correlation=correlation, baseline=0.5, seed=3)
    found = metric(vit, images[:2], targets[:2], maps[:2])
    gone = metric.subsets(32, 32).numpy()
    assert gone.sum((1, 2)).tolist() == [4 * 64] * 12 and len({one.tobytes() for one in gone}) > 8
    measure = stats.pearsonr if correlation == "pearson" else stats.spearmanr
    for row in range(2):
        sums, falls = [], []
        for subset in gone:
            changed = images[row].copy()
            changed[:, subset] = 0.5
            pair = torch.from_numpy(np.stack([images[row], changed]))
            with torch.no_grad():
                before, after = vit(pair).softmax(1)[:, targets[row]].tolist()
            sums.append(maps[row, 0][subset].sum(dtype=np.float64))
            falls.append(before - after)
        assert found[row] == pytest.approx(measure(sums, falls).statistic, abs=1e-3)
    # Alone, a sample has the score that it has beside others.
    alone = metric(vit, images[1:2], targets[1:2], maps[1:2])
    assert alone == pytest.approx(found[1:], abs=1e-4)


def test_what_has_no_fidelity(linear):
    model, x, y, terms = linear
    flat = np.ones_like(terms)
    with pytest.raises(ValueError, match=r"a constant attribution \(samples \[0, 1, 2\]"):
        MuFidelity(grid=4)(model, x, y, flat, **RAW)
    model[1].weight.data.zero_()
    with pytest.raises(ValueError, match="a score that no subset moves"):
        MuFidelity(grid=4)(model, x, y, terms, **RAW)
    for bad in ({"grid": 1}, {"draws": 2}, {"share": 1.0}):
        with pytest.raises(ValueError, match="needs a grid of at least 2 cells"):
            MuFidelity(**bad)
    with pytest.raises(ValueError, match="as many pixels a side"):
        MuFidelity(grid=9)(model, x, y, terms, **RAW)
    with pytest.raises(ValueError, match='correlation must be "pearson" or "spearman"'):
        MuFidelity(correlation="kendall")


def test_completeness_in_closed_form(linear):
    model, x, y, terms = linear
    change = terms.sum((1, 2, 3))
    assert CompletenessError()(model, x, y, terms, **RAW) == pytest.approx([0] * 3, abs=1e-4)
    zero = np.zeros_like(terms)
    assert CompletenessError()(model, x, y, zero, **RAW) == pytest.approx([1] * 3)
    twice = CompletenessError(relative=False)(model, x, y, 2 * terms, **RAW)
    assert twice == pytest.approx(np.abs(change), rel=1e-4)
    inverted = CompletenessError()(model, x, y, -terms, **RAW)
    assert inverted == pytest.approx([2] * 3, rel=1e-3)


def test_completeness_of_black_in_pixel_space(linear):
    model, x, y, terms = linear
    weight = model[1].weight.detach()[0].view(1, 3, 8, 8).numpy()
    seen = ((x - 0.5) / 0.25).astype(np.float32)
    complete = weight * (seen + 2)  # black is −0.5/0.25 = −2
    metric = CompletenessError(mean=0.5, std=0.25)
    assert metric(model, seen, y, complete, **RAW) == pytest.approx([0] * 3, abs=1e-4)
    with pytest.raises(ValueError, match="0 is not black"):
        CompletenessError()(model, seen, y, complete, **RAW)
    black = np.full_like(seen, -2)
    with pytest.raises(ValueError, match="an output that is the baseline's"):
        metric(model, black, y, complete, **RAW)
    scores = CompletenessError(mean=0.5, std=0.25, undefined="nan")(model, black, y, terms, **RAW)
    assert np.isnan(scores).all()
