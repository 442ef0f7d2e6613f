"""NIB's rules of integration, its delta and its baselines, as Captum's users call them."""

import copy

import pytest
import torch
from captum.attr import IntegratedGradients, LayerIntegratedGradients
from torch import nn

from captum_ib.attr import NIB
from captum_ib.attr.path import METHODS, Path
from tests.attr.cases import SUBJECTS

AT_ZERO = ("riemann_left", "riemann_trapezoid")
PAIR = {"return_convergence_delta": True}


class Net(nn.Module):
    """A hidden layer, then what the test asks for, then one output."""

    def __init__(self, behind: nn.Module) -> None:
        super().__init__()
        self.hidden, self.behind = nn.Identity(), behind
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))

    def forward(self, x):
        return (self.weight * self.behind(self.hidden(x))).sum(dim=1)


X = torch.tensor([[1.0, 2.0, -1.0], [0.5, 1.0, 3.0]])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_steps", [2, 3, 10])
def test_every_rule_is_exact_on_a_linear_model(method, n_steps):
    model = Net(nn.Identity())
    found, delta = NIB(model, "hidden").attribute(X, n_steps=n_steps, method=method, **PAIR)
    assert torch.allclose(found, model.weight * X, rtol=1e-6)
    assert delta.abs().max() < 1e-6
    assert sum(Path.of(n_steps, method).weights) == pytest.approx(1.0, abs=1e-6)


def test_the_trapezoid_of_a_square_by_hand():
    # F = Σ w z², F' = 2wz: linear in λ, so the trapezoid is exact: A = w z².
    class Square(nn.Module):
        def forward(self, z):
            return z.square()

    model = Net(Square())
    found = NIB(model, "hidden").attribute(X, n_steps=4, method="riemann_trapezoid")
    assert torch.allclose(found, model.weight * X.square(), rtol=1e-6)


@pytest.mark.parametrize("method", AT_ZERO)
def test_a_rule_that_zero_spoils_is_refused(method):
    nib = NIB(Net(nn.LayerNorm(3)), "hidden")
    with pytest.raises(ValueError, match=r"λ = 0.* times as large .*sample\(s\) \[0, 1\].*right"):
        nib.attribute(X, method=method)
    right = nib.attribute(X, method="riemann_right")
    assert right.abs().max() < 10
    crowded = nib.attribute(X, method=method, power=4, n_steps=400)
    exact = nib.attribute(X, method="gausslegendre", power=4, n_steps=400)
    assert torch.allclose(crowded, exact, rtol=0.05, atol=0.05)


def test_a_rule_that_zero_spoils_is_refused_in_a_transformer():
    subject = SUBJECTS["vit"]()
    nib = NIB(copy.deepcopy(subject.model), "blocks.2")
    for method in AT_ZERO:
        for rows in (None, 1):
            with pytest.raises(ValueError, match=r"at layer blocks\.2 the gradient"):
                nib.attribute(subject.inputs, target=1, method=method, internal_batch_size=rows)


def test_a_gradient_that_is_not_finite_at_zero_is_refused():
    class Root(nn.Module):
        def forward(self, z):
            return z.abs().sqrt()

    with pytest.raises(ValueError, match="λ = 0"):
        NIB(Net(Root()), "hidden").attribute(X, method="riemann_left")


def test_points_without_weight_are_not_evaluated():
    assert len(Path.of(10, "riemann_left", 4.0).points) == 9
    assert len(Path.of(10, "riemann_left").points) == 10


def test_the_delta_of_a_map_is_that_of_its_path():
    model = Net(nn.Softplus())
    nib = NIB(model, "hidden")
    for baselines in (None, 0.5, torch.tensor([[0.1, -0.2, 0.3]])):
        found, delta = nib.attribute(X, baselines, n_steps=2, **PAIR)
        again = nib.compute_convergence_delta(found, baselines, X)
        assert delta.abs().max() > 0.1
        assert torch.allclose(again, delta, atol=1e-6)


def test_the_delta_counts_from_the_layer_and_not_from_the_inputs():
    # A hidden bias: F at the input 0 is not F at the hidden state 0, which the path starts at.
    first = nn.Linear(3, 3)
    with torch.no_grad():
        first.weight.copy_(torch.eye(3))
        first.bias.fill_(5.0)
    model = nn.Sequential(first, nn.Linear(3, 1, bias=False))
    nib, x = NIB(model, "1"), torch.ones(1, 3)
    found = nib.attribute(x, target=0)
    assert nib.compute_convergence_delta(found, 0, x, target=0).item() == pytest.approx(0, abs=1e-5)
    # 1 too much in the map is 1 too much in the delta.
    more = found + torch.tensor([[1.0, 0.0, 0.0]])
    assert nib.compute_convergence_delta(more, 0, x, target=0).item() == pytest.approx(1, abs=1e-5)


def test_the_delta_of_a_transformer_needs_all_tokens():
    subject = SUBJECTS["vit"]()
    nib = NIB(copy.deepcopy(subject.model), "blocks.2")
    whole, delta = nib.attribute(subject.inputs, target=1, reduce="none", **PAIR)
    again = nib.compute_convergence_delta(whole, None, subject.inputs, target=1)
    assert torch.allclose(again, delta, atol=1e-5)
    summed = nib.attribute(subject.inputs, target=1)
    with pytest.raises(ValueError, match=r"leaves out 1 token.*return_convergence_delta=True"):
        nib.compute_convergence_delta(summed, None, subject.inputs, target=1)
    with pytest.raises(ValueError, match=r"attributions of shape \(3, 7\) are no map"):
        nib.compute_convergence_delta(torch.ones(3, 7), None, subject.inputs, target=1)


def test_the_delta_of_a_pair_is_one_per_tower():
    subject = SUBJECTS["clip"]()
    nib = NIB(subject.model, subject.layers)
    given = {"additional_forward_args": subject.extra}
    maps, deltas = nib.attribute(subject.inputs, reduce="none", **PAIR, **given)
    again = nib.compute_convergence_delta(maps, None, subject.inputs, **given)
    for one, other in zip(again, deltas, strict=True):
        assert torch.allclose(one, other, atol=1e-4)
    with pytest.raises(ValueError, match=r"expected 2 map\(s\) in attributions, given 1"):
        nib.compute_convergence_delta(maps[0], None, subject.inputs, **given)


def test_nib_multiplies_by_inputs_as_captum_s_integrals_do():
    model = Net(nn.Softplus())
    assert NIB(model, "hidden").multiplies_by_inputs is True
    captum = LayerIntegratedGradients(model, model.hidden)
    expected = captum.attribute(X, n_steps=50, method="gausslegendre")
    found = NIB(model, "hidden").attribute(X, n_steps=50, method="gausslegendre")
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    "given",
    [
        (0.5,),
        lambda: 0.5,
        lambda: (0.5,),
        lambda inputs: torch.full_like(inputs, 0.5),
        (torch.full((1, 3), 0.5),),
        [lambda: torch.full((2, 3), 0.5)],
    ],
)
def test_baselines_come_in_captum_s_forms(given):
    nib = NIB(Net(nn.Softplus()), "hidden")
    assert torch.equal(nib.attribute(X, given), nib.attribute(X, 0.5))
    found = nib.attribute(X, given)
    assert nib.compute_convergence_delta(found, given, X).shape == (2,)


def test_a_pair_has_a_function_or_a_number_for_each_tower():
    subject = SUBJECTS["clip"]()
    nib = NIB(subject.model, subject.layers)
    given = {"additional_forward_args": subject.extra}
    expected = nib.attribute(subject.inputs, (0.1, 0.2), **given)
    for baselines in ((lambda: 0.1, 0.2), lambda: (0.1, 0.2), lambda inputs: [0.1, 0.2]):
        found = nib.attribute(subject.inputs, baselines, **given)
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_device_ids_are_those_of_one_device():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))
    x = torch.rand(2, 4, generator=torch.Generator().manual_seed(0))
    plain = NIB(model, "1").attribute(x, target=0)
    for given in (None, [], [0], (0,)):
        assert torch.equal(NIB(model, "1", device_ids=given).attribute(x, target=0), plain)
    with pytest.raises(ValueError, match=r"several devices, \[0, 1\].*the model itself"):
        NIB(model, "1", device_ids=[0, 1])
    for given in (0, ["cuda:0"], "0"):
        with pytest.raises(TypeError, match="device_ids must be a list of ints or None"):
            NIB(model, "1", device_ids=given)


def first_layer():
    """Two linear layers, the path at the second's input; Captum sees the same place."""
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            values = torch.arange(parameter.numel(), dtype=torch.float32) - 2 * number
            parameter.copy_(values.sin().reshape(parameter.shape))
    return model


@pytest.mark.parametrize("method", METHODS)
def test_every_rule_is_captum_s_on_a_linear_model(method):
    # Of the trapezoid's weights Captum's sum is (n − 1)/n: 0.8 with five points.
    model = first_layer()
    inputs = torch.tensor([[1.0, -2.0, 3.0]])
    z = model[0](inputs).detach()
    expected = IntegratedGradients(model[1]).attribute(z, target=1, n_steps=5, method=method)
    found = NIB(model, "1").attribute(inputs, target=1, n_steps=5, method=method)
    share = 0.8 if method == "riemann_trapezoid" else 1.0
    torch.testing.assert_close(share * found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found, model[1].weight[1] * z, rtol=1e-5, atol=1e-6)


def test_the_delta_is_captum_s_where_the_layer_is_the_input():
    model = nn.Sequential(nn.Identity(), nn.Linear(3, 1), nn.Softplus())
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -2.0, 0.5]]))
        model[1].bias.fill_(0.25)
    captum, nib = IntegratedGradients(model), NIB(model, "0")
    for start in (0.0, 0.5):
        expected, gap = captum.attribute(
            X, start, target=0, n_steps=4, method="riemann_right", return_convergence_delta=True
        )
        found, delta = nib.attribute(X, start, target=0, n_steps=4, **PAIR)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(delta, gap.float(), rtol=1e-4, atol=1e-6)
        again = captum.compute_convergence_delta(found, start, X, target=0)
        own = nib.compute_convergence_delta(found, start, X, target=0)
        torch.testing.assert_close(own, again.float(), rtol=1e-4, atol=1e-6)
