"""The protocols on a tree whose every score follows from the weights of the parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from captum_ib.metrics import FunnyBirds, evaluate_funnybirds
from captum_ib.metrics.funnybirds import THRESHOLDS, Responses, importance, part_weights
from captum_ib.metrics.funnybirds.protocols import contrasting_classes, spearman
from captum_ib.metrics.funnybirds.responses import without


def test_minimal_sets(tree):
    # Class 0 shares beak and eye with 1, foot and tail with 2, the wing with 3: no part is its own,
    # and of the ten pairs only {beak, eye} and {foot, tail} don't tell it from all.
    data = FunnyBirds(tree)
    found = data.minimal_sets(0)
    assert len(found) == 8
    assert all(len(parts) == 2 for parts in found)
    assert {"beak", "eye"} not in found
    assert {"foot", "tail"} not in found
    assert data.shared_parts(0, 3) == {"wing"}


def test_contrasting_classes(tree):
    data = FunnyBirds(tree)
    assert contrasting_classes(data, 0) == ((1, {"beak", "eye"}), (2, {"foot", "tail"}))
    assert contrasting_classes(data, 3) == ((1, {"foot", "tail"}), (2, {"beak", "eye"}))
    data.classes[2] = {"beak": 0, "eye": 0, "foot": 2, "tail": 2, "wing": 2}
    data.classes[3] = dict.fromkeys(data.classes[3], 3)
    assert contrasting_classes(data, 0) is None
    assert contrasting_classes(data, 0, original=True) == (
        (1, {"beak", "eye"}),
        (2, {"beak", "eye"}),
    )


def test_part_weights_grow_by_two_pixels_and_halves_add_up():
    part_map = np.zeros((12, 12, 3), np.uint8)
    part_map[5, 5], part_map[5, 6], part_map[0, 0] = (255, 255, 253), (255, 255, 254), (0, 0, 255)
    weights = part_weights(
        part_map, {"eye": ((255, 255, 253), (255, 255, 254)), "tail": ((0, 0, 255),)}
    )
    assert weights["eye"].sum() == 50
    assert weights["eye"].max() == 2
    assert (weights["eye"] == 2).sum() == 20  # five rows, the four columns that both halves reach
    assert weights["tail"].sum() == 9  # a corner
    attribution = torch.arange(2 * 144.0).view(2, 12, 12)
    found = importance(attribution, weights)
    assert found.total == float(attribution.sum())
    assert found.of["tail"] == float(attribution[:, :3, :3].sum())


def test_spearman_equals_scipy():
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, two = rng.integers(0, 4, (2, 5)).astype(float)
        if len(set(one)) > 1 and len(set(two)) > 1:
            expected = scipy.stats.spearmanr(one, two).statistic
            assert spearman(list(one), list(two)) == pytest.approx(expected)
    assert math.isnan(spearman([1.0, 1.0], [1.0, 2.0]))


def test_the_right_explanation(tree, model, oracle):
    scores = evaluate_funnybirds(model, oracle, tree)
    assert scores.accuracy == 1
    assert scores.background_independence == 0.5  # object 0 counts 2 of 17, object 1 nothing
    # At the lowest threshold all parts are important. Without them all, class 3 wins by its bias.
    assert (scores.csdc, scores.pc, scores.dc, scores.d) == (1, 1, 0.75, 1)
    assert (scores.sd, scores.ts) == (1, 1)
    assert scores.threshold == THRESHOLDS[0] == 0.01
    assert scores.completeness == pytest.approx((2.75 / 3 + 1) / 2)
    assert scores.total == pytest.approx((scores.completeness + 2) / 3)
    # Of a sum of 17 the beak has 5/17 = 0.294: beyond, nothing is important any more.
    beyond = THRESHOLDS > 5 / 17
    assert (scores.curves["csdc"][beyond] == 0).all()
    alone = (THRESHOLDS > 4 / 17) & ~beyond
    assert (scores.curves["csdc"][alone] == 0.5).all()  # one part of two


def test_habits_of_the_original(tree, model, oracle):
    scores = evaluate_funnybirds(model, oracle, tree, compat="original")
    assert scores.csdc == 0.75  # the last class has no minimal set there
    negative = lambda **kwargs: oracle(sign=-1.0, **kwargs)  # noqa: E731
    original = evaluate_funnybirds(model, negative, tree, compat="original")
    corrected = evaluate_funnybirds(model, negative, tree)
    # −t · 17 < 0: the irrelevant object's 0 is above it. |−17| · t > 0: nothing is above.
    assert (original.curves["d"] == 0).all()
    assert (corrected.curves["d"] == 1).all()
    assert corrected.sd == 0
    assert corrected.ts == 0


def test_what_does_not_count_is_nan(tree, oracle):
    class Constant(nn.Module):
        def forward(self, x):
            return torch.tensor([[0.0, 0.0, 0.0, 1.0]]).repeat(len(x), 1)

    scores = evaluate_funnybirds(Constant().eval(), oracle, tree)
    assert scores.accuracy == 0.25
    assert math.isnan(scores.sd)  # nothing that is removed changes anything
    assert math.isnan(scores.ts)  # so no pair of classes is kept
    assert scores.background_independence == 1


def test_responses_ask_the_model_once(tree, oracle):
    seen = []

    class Counting(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return torch.eye(4)[[0] * len(x)]

    data = FunnyBirds(tree)
    model = Counting().eval()
    responses = Responses(data, model, batch_size=7)
    evaluate_funnybirds(model, oracle, data, responses=responses)
    asked = sum(seen)
    assert max(seen) == 7
    evaluate_funnybirds(model, oracle, data, responses=responses)
    assert sum(seen) == asked
    responses.logits(data.birds[0], without("beak"))
    assert sum(seen) == asked


class TestBadInput:
    def test_maps(self, tree, model):
        with pytest.raises(ValueError, match="upsample layer maps"):
            evaluate_funnybirds(model, lambda inputs, **k: np.ones((len(inputs), 1, 8, 8)), tree)
        with pytest.raises(ValueError, match=r"returned \(40, 32\)"):
            evaluate_funnybirds(model, lambda inputs, **k: np.ones((40, 32)), tree)
        with pytest.raises(ValueError, match="holds NaN"):
            evaluate_funnybirds(model, lambda inputs, **k: inputs * np.nan, tree)

    def test_models(self, tree, oracle):
        wrong = nn.Sequential(nn.Flatten(), nn.LazyLinear(3)).eval()
        with pytest.raises(ValueError, match=r"expected \(\d+, 4\), one logit per class"):
            evaluate_funnybirds(wrong, oracle, tree)
        with pytest.raises(RuntimeError, match="training mode"):
            evaluate_funnybirds(nn.Identity(), oracle, tree)

    def test_arguments(self, tree, model, oracle):
        with pytest.raises(ValueError, match='compat is None or "original"'):
            evaluate_funnybirds(model, oracle, tree, compat="exact")
        other = Responses(FunnyBirds(tree), nn.Identity())
        with pytest.raises(ValueError, match="answers of another model"):
            evaluate_funnybirds(model, oracle, tree, responses=other)
        with pytest.raises(ValueError, match="batch_size must be at least 1"):
            Responses(FunnyBirds(tree), model, batch_size=0)

    def test_trees(self, tree, tmp_path):
        with pytest.raises(FileNotFoundError):
            FunnyBirds(tmp_path)
        data = FunnyBirds(tree)
        with pytest.raises(ValueError, match="parts are beak, eye, foot, tail, wing; given head"):
            data.with_parts(data.birds[0], {"head"})
        (tmp_path / "classes.json").write_text('[{"class_idx": 0, "parts": {"beak": 0}}]')
        with pytest.raises(ValueError, match="entry 0 is class 0 with beak"):
            FunnyBirds(tmp_path)
