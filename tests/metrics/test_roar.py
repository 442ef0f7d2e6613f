"""ROAR+: what is removed, what it costs to never have seen it, and whom it leaves alone."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from captum_ib.metrics import ROARPlus

PAD, BEGIN, END, BLANK, RED, ROUND = range(6)
ONE_HOT = torch.tensor([-1.0, 1.0])


def labelled(n: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """4×4 noise images whose class is the brightness of the first row; the map that marks it."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 2
    x = rng.normal(0, 0.3, (n, 1, 4, 4)).astype(np.float32)
    x[:, 0, 0] += 2 * y[:, None] - 1
    right = np.zeros((n, 1, 4, 4), np.float32)
    right[:, :, 0] = 1
    return x, y, right


def classifier() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()


def test_removing_what_matters_costs_more_than_removing_anything_else():
    x, y, right = labelled()
    wrong = np.flip(right, 2).copy()
    settings = {"epochs": 5, "lr": 1e-2, "train_batch_size": 16, "seeds": (0, 1)}
    metric = ROARPlus(**settings)
    informed = metric(classifier(), x, y, right)
    assert informed == pytest.approx(INFORMED, rel=1e-3)
    assert ROARPlus(**settings)(classifier(), x, y, wrong) == pytest.approx(
        BLIND, abs=0.05
    )  # percent
    run = metric.runs[1]
    assert (run.seed, run.steps, run.finished) == (1, 15, True)
    assert run.score == 100 * (run.loss_degraded - run.loss_original) / run.loss_original
    np.testing.assert_array_equal(run.validation[:, 0], np.arange(3, 16, 3))


INFORMED, BLIND = [133.004, 123.292], [1.440, 4.168]  # two seeds, torch 2.15


def test_a_quarter_of_the_pixels_becomes_the_channel_mean(monkeypatch):
    x, y, right = labelled(10)
    seen = {}

    def spy(self, module, sets, held, schedule, names):
        seen.update(sets=sets, held=held)
        raise InterruptedError

    monkeypatch.setattr(ROARPlus, "_run", spy)
    with pytest.raises(InterruptedError):
        ROARPlus()(classifier(), x, y, right)
    original, degraded = (data[0] for data in seen["sets"])
    assert (len(original), len(seen["held"][0])) == (8, 2)
    assert torch.equal(degraded[:, :, 1:], original[:, :, 1:])
    torch.testing.assert_close(degraded[:, :, 0], original.mean().expand(8, 1, 4))


def test_pair_with_both_sides_degraded(dual, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.random((10, 1, 4, 4)).astype(np.float32)
    ids = np.array([[BEGIN, RED, ROUND, END, PAD]] * 10)
    text_map = np.array([[9.0, 1.0, 2.0, 9.0, 9.0]] * 10)
    before = copy.deepcopy(dual.state_dict())
    seen = {}
    run = ROARPlus._run

    def spy(self, module, sets, held, schedule, names):
        seen.update(sets=sets)
        return run(self, module, sets, held, schedule, names)

    monkeypatch.setattr(ROARPlus, "_run", spy)
    metric = ROARPlus(
        epochs=1, train_batch_size=4, special_tokens=(PAD, BEGIN, END), blank_token=BLANK
    )
    scores = metric(dual, x, ids, rng.random(x.shape), custom_batch=text_map)
    assert len(scores) == 1
    # Above the median of the two content tokens: the second one.
    assert seen["sets"][1][1][0].tolist() == [BEGIN, RED, BLANK, END, PAD]
    assert seen["sets"][0][1][0].tolist() == [BEGIN, RED, ROUND, END, PAD]
    assert seen["sets"][0][2][0].tolist() == [True, True, True, True, False]
    assert all(torch.equal(before[name], value) for name, value in dual.state_dict().items())


def test_text_as_the_explained_side(dual):
    ids = np.array([[BEGIN, RED, ROUND, END], [BEGIN, ROUND, RED, END]] * 5)
    images = np.random.default_rng(0).random((10, 1, 4, 4)).astype(np.float32)
    metric = ROARPlus(
        epochs=1, modality="text", special_tokens=(PAD, BEGIN, END), blank_token=BLANK
    )
    metric(dual, ids, images, np.random.default_rng(1).random((10, 4)))
    assert metric.runs[0].steps == 1


def test_budget_and_resuming(tmp_path):
    x, y, right = labelled()
    settings = {"epochs": 3, "lr": 1e-2, "train_batch_size": 16, "checkpoint_dir": tmp_path}
    short = ROARPlus(**settings, max_seconds=1e-9)
    short(classifier(), x, y, right)
    assert (short.runs[0].steps, short.runs[0].finished) == (1, False)
    resumed = ROARPlus(**settings)
    whole = ROARPlus(**{**settings, "checkpoint_dir": None})
    assert resumed(classifier(), x, y, right) == whole(classifier(), x, y, right)
    assert (tmp_path / "roar_seed0.safetensors").exists()


class TestBadInput:
    def test_constant_map(self):
        x, y, right = labelled(10)
        right[3] = 1
        with pytest.raises(ValueError, match=r"constant attribution \(samples \[3\]"):
            ROARPlus()(classifier(), x, y, right)
        metric = ROARPlus(undefined="nan", epochs=1)
        assert np.isfinite(metric(classifier(), x, y, right)).all()

    def test_text_without_special_tokens(self, dual):
        ids = np.array([[BEGIN, RED, ROUND, END]] * 10)
        images = np.zeros((10, 1, 4, 4), np.float32)
        with pytest.raises(ValueError, match="special_tokens="):
            ROARPlus(modality="text")(dual, ids, images, np.random.default_rng(0).random((10, 4)))

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"train_fraction": 1.0}, "between 0 and 1"),
            ({"seeds": ()}, "at least one seed"),
            ({"temperature": 0.0}, "temperature must be above 0"),
            ({"epochs": 0}, "epochs must be above 0"),
        ],
    )
    def test_settings(self, settings, message):
        with pytest.raises(ValueError, match=message):
            ROARPlus(**settings)

    def test_nothing_left_to_lose(self):
        class Sure(nn.Module):
            def __init__(self):
                super().__init__()
                self.bias = nn.Parameter(torch.zeros(2))

            def forward(self, x):
                return self.bias + 1e4 * (2 * (x[:, 0, 0, 0] > 0)[:, None] - 1) * ONE_HOT

        x, y, right = labelled(20)
        x[:, 0, 0] = 2 * y[:, None] - 1
        with pytest.raises(ValueError, match="validation loss of 0"):
            ROARPlus(epochs=1)(Sure().eval(), x, y, right)
        assert np.isnan(ROARPlus(epochs=1, undefined="nan")(Sure().eval(), x, y, right)).all()

    def test_too_few_samples(self):
        x, y, right = labelled(4)
        with pytest.raises(ValueError, match="two validation samples"):
            ROARPlus()(classifier(), x, y, right)
