"""The noise stream and the loop: seeds, pairs, chunks, and Adam written out as the oracle."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from captum_ib.bottleneck import FitSettings, NoiseStream, Terms, fit
from captum_ib.bottleneck.noise import block_seed
from tests.attr.oracles import mixed


def stream(seed=0, n_samples=4, antithetic=False, shape=(3,)):
    return NoiseStream(seed, [shape], n_samples, antithetic)


def test_one_seed_one_stream_and_the_global_generator_is_left_alone():
    torch.manual_seed(1)
    expected = torch.rand(())
    torch.manual_seed(1)
    first, second = stream(7), stream(7)
    assert all(torch.equal(first.draw()[0], second.draw()[0]) for _ in range(3))
    assert not torch.equal(stream(7).draw()[0], stream(8).draw()[0])
    assert torch.rand(()) == expected


@pytest.mark.parametrize(("n_samples", "paired"), [(4, 4), (5, 4)])
def test_antithetic_draws_come_in_pairs(n_samples, paired):
    draws = stream(n_samples=n_samples, antithetic=True).draw()[0]
    assert draws.shape == (n_samples, 3)
    assert torch.equal(draws[0:paired:2], -draws[1:paired:2])


@pytest.mark.parametrize("antithetic", [True, False])
def test_the_noise_of_a_sequence_belongs_to_its_positions(antithetic):
    lengths = (5, 64, 65, 200)
    streams = [
        NoiseStream(3, [(t, 4), (t, 6)], 3, antithetic, sequences=[True, True]) for t in lengths
    ]
    for _ in range(3):
        drawn = [one.draw() for one in streams]
        for layer in (0, 1):
            longest = drawn[-1][layer]
            for draws, t in zip(drawn, lengths, strict=True):
                assert torch.equal(draws[layer], longest[:, :t])


def test_blocks_steps_layers_and_seeds_have_noise_of_their_own():
    numbers = list(product((0, 1), (0, 1, 2), (0, 1), (0, 1)))
    assert len({block_seed(*four) for four in numbers}) == 24
    assert mixed(0) == 0xE220A8397B1DCDAF % 2**63, "the published first output of SplitMix64"
    assert [block_seed(*four) for four in numbers] == [mixed(*four) for four in numbers]
    noise = NoiseStream(0, [(128, 256)], 2, False, sequences=[True]).draw()[0]
    assert noise.mean().abs() < 0.02
    assert abs(noise.std() - 1) < 0.02
    blocks = noise[0].reshape(2, -1)
    assert abs(torch.corrcoef(blocks)[0, 1]) < 0.03


def test_a_grid_keeps_its_stream_beside_a_sequence():
    generator = torch.Generator().manual_seed(7)
    both = NoiseStream(7, [(9, 2), (2, 3, 3)], 2, False, sequences=[True, False])
    for _ in range(2):
        assert torch.equal(both.draw()[1], torch.randn(2, 2, 3, 3, generator=generator))


def test_sequences_are_said_of_every_shape():
    with pytest.raises(ValueError, match="of each of the 1 shapes .* given 2 values"):
        NoiseStream(0, [(3, 2)], 1, False, sequences=[True, False])


class Quadratic:
    """A noisy loss with a known minimum, per sample, and how often it was asked for."""

    def __init__(self, start=(5.0, -3.0, 0.5)):
        self.alpha = torch.tensor(start, requires_grad=True)
        self.calls = []

    def parameters(self):
        return [{"params": [self.alpha]}]

    def loss(self, draws):
        self.calls.append(draws[0].shape[0])
        fit_term = (self.alpha.unsqueeze(0) - 1 + 0.1 * draws[0]).square()
        return Terms(fit_term, 0.5 * self.alpha.abs(), [draws[0] + self.alpha.detach()])


def by_hand(alpha, noise, n_steps, lr):
    """The same loop in plain torch."""
    alpha = alpha.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([alpha], lr=lr)
    losses = []
    for step in range(n_steps):
        draws = noise.draw()[0]
        loss = (alpha - 1 + 0.1 * draws).square().mean(0) + 0.5 * alpha.abs()
        losses.append(loss.detach())
        if step < n_steps - 1:
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
    return alpha.detach(), torch.stack(losses)


def test_fit_equals_adam_written_out():
    problem = Quadratic()
    expected, losses = by_hand(problem.alpha, stream(3), 6, 0.7)
    settings = FitSettings(n_steps=6, n_samples=4, antithetic=False, lr=0.7)
    found = fit(problem, stream(3), settings, evaluate_last=True)
    assert torch.allclose(problem.alpha.detach(), expected, atol=1e-6)
    assert torch.allclose(found.trace.loss, losses, atol=1e-6)
    assert torch.equal(found.trace.loss, found.trace.fit + found.trace.compression)


def test_the_last_loss_is_evaluated_only_for_trace_and_information():
    problem = Quadratic()
    found = fit(problem, stream(), FitSettings(n_steps=4), False)
    assert (found.trace, found.information) == (None, [])
    assert problem.calls == [4, 4, 4]


@pytest.mark.parametrize("at_once", [None, 3, 1])
def test_draws_in_parts_give_the_same_result(at_once):
    whole, part = Quadratic(), Quadratic()
    settings = FitSettings(n_steps=5, n_samples=4, antithetic=False)
    expected = fit(whole, stream(), settings, evaluate_last=True)
    found = fit(part, stream(), replace(settings, draws_per_pass=at_once), evaluate_last=True)
    assert max(part.calls) == (at_once or 4)
    assert torch.allclose(part.alpha, whole.alpha, atol=1e-5)
    assert torch.allclose(found.trace.loss, expected.trace.loss, atol=1e-5)
    # The mean over all draws of the last step, not that of the last part.
    noise = stream()
    last = [noise.draw()[0] for _ in range(5)][-1]
    mean = last.mean(dim=0) + whole.alpha.detach()
    assert torch.allclose(found.information[0], mean, atol=1e-5)


def test_a_loss_that_is_not_finite_names_step_and_sample():
    class Infinite(Quadratic):
        def loss(self, draws):
            value = self.alpha.unsqueeze(0) + torch.tensor([0.0, float("inf")])
            return Terms(value, value * 0)

    with pytest.raises(RuntimeError, match=r"not finite at step 0 for sample\(s\) \[1\]"):
        fit(Infinite((0.0, 0.0)), stream(shape=(2,)), FitSettings(), False)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"n_steps": 0}, ValueError, "n_steps must be at least 1, given 0"),
        ({"n_steps": 2.0}, TypeError, "n_steps must be an int, given float"),
        ({"n_samples": 0}, ValueError, "n_samples must be at least 1"),
        ({"lr": 0.0}, ValueError, "lr must be positive"),
    ],
)
def test_settings_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        FitSettings(**arguments)
