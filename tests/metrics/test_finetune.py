"""Fine-tuning side by side: lockstep, budgets, checkpoints, and nothing else touched."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from captum_ib.metrics.finetune import Schedule, SideBySide, contrastive_loss

X = torch.randn(13, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()


def build(dropout: float = 0.5) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(dropout), nn.ReLU(), nn.Linear(8, 2)).eval()


def loss(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def tuning(model, schedule, checkpoint=None, second=(X, Y)) -> SideBySide:
    return SideBySide(model, [(X, Y), second], (X[:5], Y[:5]), loss, schedule, checkpoint)


def test_equal_data_give_equal_copies():
    pair = tuning(build(), Schedule(epochs=3, lr=1e-2, batch_size=4))
    progress = pair.run()
    assert progress.finished
    # 13 samples in fours: a last batch of one joins the one before, so three steps an epoch.
    assert [row[0] for row in progress.validation] == [3, 6, 9]
    assert all(row[1] == row[2] for row in progress.validation)
    for one, two in zip(pair.models[0].parameters(), pair.models[1].parameters(), strict=True):
        assert torch.equal(one, two)


def test_it_trains():
    # Without dropout, whose draws differ between versions of torch.
    progress = tuning(build(0.0), Schedule(epochs=20, lr=3e-2, batch_size=13)).run()
    with torch.no_grad():
        before = float(loss(build(0.0), (X[:5], Y[:5])))
    assert before == pytest.approx(BEFORE, abs=1e-4)
    assert progress.validation[-1][1] == pytest.approx(AFTER, abs=1e-3)


BEFORE, AFTER = 0.68807, 0.14689  # seed 1; torch 2.6 and 2.15


def test_model_and_random_state_are_left_alone():
    model = build()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    tuning(model, Schedule(epochs=1, lr=1.0, batch_size=4)).run()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert not model.training


def test_resuming_equals_not_stopping(tmp_path):
    other = (X + 1, Y)
    whole = tuning(build(), Schedule(epochs=4, lr=1e-2, batch_size=4), second=other)
    whole.run()
    file = tmp_path / "folder" / "run.safetensors"
    first = tuning(build(), Schedule(4, 1e-2, batch_size=4, max_seconds=1e-9), file, other).run()
    assert (first.step, first.finished) == (1, False)
    second = tuning(build(), Schedule(4, 1e-2, batch_size=4, max_steps=7), file, other).run()
    assert (second.step, second.finished) == (7, True)
    resumed = tuning(build(), Schedule(epochs=4, lr=1e-2, batch_size=4), file, other)
    assert resumed.progress.step == 7
    assert resumed.run().step == 12
    assert resumed.progress.validation[-1] == whole.progress.validation[-1]
    for one, two in zip(whole.models, resumed.models, strict=True):
        for name, value in one.state_dict().items():
            assert torch.equal(value, two.state_dict()[name])
    assert [path.name for path in file.parent.iterdir()] == ["run.safetensors"]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    tuning(build(), Schedule(epochs=1, batch_size=4), file).run()
    with pytest.raises(ValueError, match="belongs to another run"):
        tuning(build(), Schedule(epochs=1, batch_size=4, lr=1.0), file)
    with pytest.raises(ValueError, match="belongs to another run"):
        tuning(build(), Schedule(epochs=1, batch_size=4), file, (X + 1, Y))


def test_an_interrupted_save_leaves_the_last_one(tmp_path, monkeypatch):
    file = tmp_path / "run.safetensors"
    tuning(build(), Schedule(epochs=2, batch_size=4, max_seconds=1e-9), file).run()
    before = file.read_bytes()

    def broken(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("captum_ib.metrics.checkpoint.os.replace", broken)
    with pytest.raises(KeyboardInterrupt):
        tuning(build(), Schedule(epochs=2, batch_size=4), file).run()
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]


def test_contrastive_loss_in_closed_form():
    # Perfect pairs of four orthogonal embeddings: −log(e^s / (e^s + 3)) both ways.
    expected = math.log(math.exp(2) + 3) - 2
    assert float(contrastive_loss(torch.eye(4), torch.eye(4), 2.0)) == pytest.approx(expected)
    # Pairs swapped in twos: the partner has cosine 0, another sample cosine 1.
    swapped = torch.eye(4)[[1, 0, 3, 2]]
    assert float(contrastive_loss(torch.eye(4), swapped, 2.0)) == pytest.approx(expected + 2)


def test_divergence_is_an_error():
    with pytest.raises(RuntimeError, match="smaller learning rate"):
        tuning(build(), Schedule(epochs=50, lr=1e30, batch_size=4)).run()


def test_bad_input():
    with pytest.raises(ValueError, match="at least two training and two validation"):
        SideBySide(build(), [(X[:1], Y[:1])], (X, Y), loss, Schedule())
    with pytest.raises(ValueError, match="same number in every data set"):
        SideBySide(build(), [(X, Y), (X[:5], Y[:5])], (X, Y), loss, Schedule())
    for settings in ({"epochs": 0}, {"lr": 0.0}, {"batch_size": 0}, {"max_seconds": -1.0}):
        with pytest.raises(ValueError, match="must be above 0"):
            Schedule(**settings)
