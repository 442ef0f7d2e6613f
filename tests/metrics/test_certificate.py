"""The certificate against closed forms: where the noise goes, and how often a class flips."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from captum_ib import IBA, NIB, CoIBA
from captum_ib.bottleneck import ActivationStatistics
from captum_ib.metrics import certify
from captum_ib.metrics.certificate import wilson


def normal_cdf(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


@pytest.fixture
def linear() -> nn.Module:
    """Logits (r₀ + r₁, 0) of a two-element layer."""
    model = nn.Sequential(nn.Identity(), nn.Linear(2, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
    return model


@pytest.fixture
def statistics() -> ActivationStatistics:
    """μ = (0, 1), σ = (1, 2)."""
    found = ActivationStatistics()
    found.update("0", torch.tensor([[-1.0, -1.0], [1.0, 3.0]]))
    return found


def test_flips_of_a_linear_model(linear, statistics):
    # r = (1, 1); element 1 becomes N(1, 2²): class 0 loses when 1 + ε < 0, P = Φ(−1) = 0.1587.
    x, bits = torch.tensor([[1.0, 1.0]]), torch.tensor([[5.0, 0.0]])
    found = certify(
        IBA(linear, "0"), x, bits, 0.5, target=0, baselines=statistics, n_draws=4000, seed=0
    )
    assert found.replaced.tolist() == [0.5]
    expected = normal_cdf(-1.0)
    assert found.low < expected < found.high
    assert found.rate.item() == pytest.approx(SEEDED, abs=1e-4)  # 4000 draws, seed 0
    assert found.rate == found.moves / 4000


SEEDED = 0.1575


def test_change_of_the_targets_probability(linear, statistics):
    # Element 0 becomes N(0, 1): E |σ(1 + ε) − σ(2)| by quadrature.
    x, bits = torch.tensor([[1.0, 1.0]]), torch.tensor([[0.0, 5.0]])
    found = certify(IBA(linear, "0"), x, bits, 0.5, baselines=statistics, n_draws=4000)
    grid = np.linspace(-8, 8, 20001)
    density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
    change = np.abs(1 / (1 + np.exp(-1 - grid)) - 1 / (1 + np.exp(-2)))
    expected = (density * change).sum() * (grid[1] - grid[0])
    assert abs(found.change.item() - expected) < 3 * found.change_error.item()
    assert found.change_error.item() < 0.003


def test_nothing_below_the_threshold_changes_nothing(linear, statistics):
    x, bits = torch.tensor([[1.0, 1.0]]), torch.tensor([[5.0, 7.0]])
    found = certify(IBA(linear, "0"), x, bits, 5.0, baselines=statistics, n_draws=100)
    assert (found.replaced.item(), found.rate.item(), found.change.item()) == (0, 0, 0)
    # No move in 100 draws: the rate may still be up to z²/(n + z²) = 3.84/103.84.
    assert found.low.item() == 0
    assert found.high.item() == pytest.approx(0.03699, abs=1e-5)


def test_wilson_by_its_equation():
    low, high = wilson(torch.tensor([0.0, 10.0, 40.0], dtype=torch.float64), 40, 0.95)
    for moves, *ends in zip((0, 10, 40), low.tolist(), high.tolist(), strict=True):
        for end in ends:
            # The ends are where |p̂ − p| is z standard errors of p.
            if 1e-9 < end < 1 - 1e-9:
                error = math.sqrt(end * (1 - end) / 40)
                assert abs(moves / 40 - end) == pytest.approx(1.959964 * error, rel=1e-5)


def test_draws_do_not_depend_on_how_many_pass_at_once(vit, images):
    x = torch.from_numpy(images[:2])
    iba = IBA(vit, "blocks.0")
    bits = iba.attribute(x, target=1, seed=0, n_steps=2)
    threshold = float(bits.median())
    one = certify(iba, x, bits, threshold, n_draws=20, draws_per_pass=20)
    two = certify(iba, x, bits, threshold, n_draws=20, draws_per_pass=3)
    assert torch.equal(one.moves, two.moves)
    torch.testing.assert_close(one.change, two.change, rtol=1e-4, atol=1e-6)
    alone = certify(iba, x[1:], bits[1:], threshold, n_draws=20)
    torch.testing.assert_close(alone.change, one.change[1:], rtol=1e-4, atol=1e-6)


def test_only_marked_positions_change_at_the_layer(vit, images):
    """Spied behind the layer: class token and kept patches are exact, the others are not."""
    x, seen = torch.from_numpy(images[:2]), []
    iba = IBA(vit, "blocks.0")
    bits = torch.zeros(2, 1, 4, 4)
    bits[:, :, 0, 1] = 3.0
    clean = []
    handle = vit.blocks[0].register_forward_hook(lambda m, a, out: clean.append(out.clone()))
    vit(x)
    handle.remove()
    handle = vit.blocks[1].register_forward_pre_hook(lambda m, args: seen.append(args[0].clone()))
    try:
        certify(iba, x, bits, 1.0, n_draws=2, draws_per_pass=2)
    finally:
        handle.remove()
    noisy = seen[-1].unflatten(0, (2, 2))
    same = (noisy == clean[0]).all(-1)
    assert same[:, :, 0].all()  # the class token
    assert same[:, :, 2].all()  # row 0, column 1
    kept = torch.zeros(17, dtype=torch.bool)
    kept[[0, 2]] = True
    assert not same[:, :, ~kept].any()


def test_every_layer_of_coiba_is_cut(vit, images):
    x = torch.from_numpy(images[:2])
    coiba = CoIBA(vit, ["blocks.0", "blocks.1"])
    nothing = torch.zeros(2, 1, 4, 4)
    both = certify(coiba, x, nothing, 1.0, n_draws=30)
    last = certify(CoIBA(vit, ["blocks.1"]), x, nothing, 1.0, n_draws=30)
    assert both.replaced.tolist() == [1.0, 1.0]
    assert not torch.allclose(both.change, last.change, rtol=1e-3)


def test_elementwise_bits_reach_the_class_token(vit, images):
    x, iba = torch.from_numpy(images[:2]), IBA(vit, "blocks.1")
    bits = torch.full((2, 17, 16), 3.0)
    assert certify(iba, x, bits, 1.0, n_draws=5).change.tolist() == [0.0, 0.0]
    bits[:, 0] = 0
    found = certify(iba, x, bits, 1.0, n_draws=5)
    assert found.replaced.tolist() == pytest.approx([1 / 17] * 2)
    assert (found.change > 0).all()


def test_less_is_kept_the_more_it_moves(vit, images):
    x, iba = torch.from_numpy(images), IBA(vit, "blocks.0")
    bits = iba.attribute(x, target=1, seed=0)
    few, many = (
        certify(iba, x, bits, float(bits.quantile(q)), n_draws=50, seed=1).change.mean()
        for q in (0.1, 0.9)
    )
    assert few < many


def test_the_model_and_the_random_state_come_back(vit, images):
    before, state = copy.deepcopy(vit.state_dict()), torch.get_rng_state()
    certify(IBA(vit, "blocks.0"), torch.from_numpy(images), torch.zeros(6, 1, 4, 4), 1.0, n_draws=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in vit.state_dict().items())
    assert not any(module._forward_hooks for module in vit.modules())
    assert all(parameter.requires_grad for parameter in vit.parameters())


def test_report_in_words(linear, statistics):
    x, bits = torch.tensor([[1.0, 1.0]]), torch.tensor([[5.0, 7.0]])
    text = str(certify(IBA(linear, "0"), x, bits, 6.0, baselines=statistics, n_draws=100))
    assert text.startswith("sample 0: 50% below 6 bits replaced; the prediction moves in ")
    assert "(95% interval " in text


class TestBadInput:
    @pytest.mark.parametrize(
        ("bits", "message"),
        [
            (torch.tensor([[-1.0, 2.0]]), "not in bits"),
            (torch.tensor([[math.nan, 2.0]]), "NaN"),
            (torch.ones(1, 3), "before any upsampling"),
            (torch.ones(2, 2), r"\(2, 2\) for 1 samples"),
        ],
    )
    def test_attributions(self, bits, message, linear):
        with pytest.raises(ValueError, match=message):
            certify(IBA(linear, "0"), torch.ones(1, 2), bits, 1.0)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"bits": 0.0}, "above 0"),
            ({"bits": 1.0, "n_draws": 1}, "n_draws ≥ 2"),
            ({"bits": 1.0, "level": 95}, "between 0 and 1"),
            ({"bits": 1.0, "tolerance": -1}, "not be negative"),
            ({"bits": 1.0, "prior": "uniform"}, '"standard" or None'),
        ],
    )
    def test_settings(self, settings, message, linear):
        with pytest.raises(ValueError, match=message):
            certify(IBA(linear, "0"), torch.ones(1, 2), torch.ones(1, 2), **settings)

    def test_methods(self, linear):
        with pytest.raises(TypeError, match="NIB has no bottleneck"):
            certify(NIB(linear, "1"), torch.ones(1, 2), torch.ones(1, 2), 1.0)
        with pytest.raises(TypeError, match="must be a tensor of bits, given list"):
            certify(IBA(linear, "0"), torch.ones(1, 2), [[1.0, 1.0]], 1.0)
