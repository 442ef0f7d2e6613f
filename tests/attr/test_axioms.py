"""The axioms of docs/methods/axioms.md: where NIB keeps them, and where it does not, in numbers."""

import pytest
import torch
from torch import nn

from captum_ib import InputWarning
from captum_ib.attr import NIB

EXACT = {"n_steps": 20, "method": "gausslegendre"}
W = torch.tensor([1.0, -2.0, 0.5])
Z = torch.tensor([[1.0, 2.0, -3.0]])


class At(nn.Module):
    """z = x at a layer, F behind it."""

    def __init__(self, behind, before=None) -> None:
        super().__init__()
        self.before, self.layer, self.behind = before or nn.Identity(), nn.Identity(), behind

    def forward(self, x):
        return self.behind(self.layer(self.before(x)))


class Formula(nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, z):
        return self.function(z)


def attribution(function, z=Z, baselines=None, **options):
    return NIB(At(Formula(function)), "layer").attribute(z, baselines, **(options or EXACT))


def squares(z):
    return (W * z.square()).sum(dim=1)


def test_sensitivity_one_element_gets_the_whole_difference():
    b = torch.tensor([[1.0, 2.0, 0.0]])  # z and b differ in the last element only
    found = attribution(squares, baselines=b)
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.0, 4.5]]))


def test_sensitivity_is_lost_between_two_points_of_a_sum():
    # F rises from 0 to 1 before z reaches 1, and the first of ten even points lies at 2.
    def early(z):
        return z.clamp(max=1.0).sum(dim=1)

    z = torch.tensor([[20.0]])
    with pytest.warns(InputWarning, match="is 0 at every point that was looked at"):
        assert attribution(early, z, n_steps=10).item() == 0.0
    assert attribution(early, z, n_steps=2000, power=4.0).item() == pytest.approx(1.0, abs=2e-3)


def test_what_the_output_does_not_depend_on_gets_nothing():
    found = attribution(lambda z: z[:, 0] * z[:, 1])
    torch.testing.assert_close(found, torch.tensor([[1.0, 1.0, 0.0]]))
    assert found[0, 2].item() == 0.0


def test_implementation_invariance_holds_behind_the_layer():
    one = nn.Linear(3, 1, bias=False)
    two = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        two[0].weight.copy_(torch.tensor([[2.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.5]]))
        two[1].weight.copy_(W / two[0].weight.diagonal())
        one.weight.copy_(W)
    for behind in (one, two):
        found = NIB(At(behind), "layer").attribute(Z, target=0)
        torch.testing.assert_close(found, W * Z)


def test_implementation_invariance_ends_at_the_layer():
    # Both give F(x) = x, one with the hidden state x, one with x + 5.
    x = torch.tensor([[2.0]])
    plain = At(Formula(lambda z: z.sum(dim=1)))
    moved = At(Formula(lambda z: z.sum(dim=1) - 5.0), Formula(lambda x: x + 5.0))
    assert plain(x).item() == moved(x).item() == 2.0
    found = [NIB(model, "layer").attribute(x).item() for model in (plain, moved)]
    assert found == pytest.approx([2.0, 7.0])


def test_completeness_of_the_integral_and_of_ten_right_points():
    # F' = 2wz is linear in λ: ten right points give (1 + 1/10) of the integral.
    gain = squares(Z).item()  # −2.5
    assert attribution(squares).sum().item() == pytest.approx(gain, abs=1e-5)
    ten = {"n_steps": 10, "method": "riemann_right", "return_convergence_delta": True}
    found, delta = attribution(squares, **ten)
    assert found.sum().item() == pytest.approx(1.1 * gain, abs=1e-5)
    assert delta.item() == pytest.approx(0.1 * gain, abs=1e-5)


def test_attributions_of_a_sum_of_outputs_add_up():
    def line(z):
        return (z * torch.tensor([3.0, 1.0, 2.0])).sum(dim=1)

    found = attribution(lambda z: 2.0 * squares(z) + 3.0 * line(z))
    torch.testing.assert_close(found, 2.0 * attribution(squares) + 3.0 * attribution(line))


def test_attributions_of_a_sum_of_states_do_not_add_up():
    # (1 + 2)² = 9, but 1² + 2² = 5.
    one, two = torch.tensor([[1.0]]), torch.tensor([[2.0]])

    def square(z):
        return z.square().sum(dim=1)

    both = attribution(square, one + two).item()
    apart = attribution(square, one).item() + attribution(square, two).item()
    assert (both, apart) == pytest.approx((9.0, 5.0))


def test_a_cosine_with_a_sum_of_embeddings_is_short_of_the_sum_by_its_length():
    # cos(z, u + v) = (cos(z, u) + cos(z, v)) / ‖u + v‖ for unit u, v: 1/√2 at a right angle.
    def towards(e):
        return lambda z: torch.cosine_similarity(z + 1.0, e.expand_as(z), dim=1)

    u, v = torch.eye(3)[0], torch.eye(3)[1]
    found = attribution(towards(u + v))
    expected = (attribution(towards(u)) + attribution(towards(v))) / 2.0**0.5
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_noise_as_the_baseline_is_the_bottleneck_of_theorem_1():
    # z̃ = ε + λ(z − ε) = λz + (1 − λ)ε. With F = Σ w z² one draw gives w(z² − ε²), so the mean over
    # draws is w σ² short of NIB's, and the limit σ² → 0 is NIB.
    draws = torch.tensor([1.0, -1.0])
    for variance in (1e-1, 1e-4):
        each = [attribution(squares, baselines=draw.item() * variance**0.5) for draw in draws]
        mean = torch.stack(each).mean(dim=0)
        torch.testing.assert_close(mean, W * (Z.square() - variance), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(attribution(squares), W * Z.square(), rtol=1e-5, atol=1e-5)
