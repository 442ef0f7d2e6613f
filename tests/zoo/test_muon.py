"""Muon: steps with equal singular values, and the update written out once."""

import pytest
import torch

from captum_ib.zoo.muon import Muon, orthogonalise


@pytest.mark.parametrize("shape", [(64, 64), (192, 64), (64, 256)])
def test_orthogonalise_keeps_the_singular_vectors_and_evens_the_values(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, values, vh = torch.linalg.svd(matrix.double(), full_matrices=False)
    # On singular values the iteration is a polynomial of one number, written out here.
    expected = values / values.norm()
    for _ in range(5):
        expected = 3.4445 * expected - 4.7750 * expected**3 + 2.0315 * expected**5
    core = u.T @ orthogonalise(matrix).double() @ vh.T
    torch.testing.assert_close(core, expected.diag(), rtol=1e-3, atol=1e-3)
    assert expected.max() < 1.25 and expected[values > 0.2 * values.max()].min() > 0.65


def test_two_steps_written_out():
    torch.manual_seed(0)
    weight, gradients = torch.randn(3, 8), torch.randn(2, 3, 8)
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = Muon([parameter], lr=0.1, momentum=0.9, weight_decay=0.5)
    average = torch.zeros(3, 8)
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
        average = 0.9 * average + 0.1 * gradient
        step = orthogonalise(0.9 * average + 0.1 * gradient)
        weight = weight * (1 - 0.1 * 0.5) - 0.1 * 0.2 * 8**0.5 * step
    torch.testing.assert_close(parameter.detach(), weight)


def test_a_closure_is_called_and_parameters_without_gradient_stay():
    parameter = torch.nn.Parameter(torch.ones(2, 2))
    optimizer = Muon([parameter], lr=0.1)
    assert optimizer.step(lambda: 3.0) == 3.0
    assert torch.equal(parameter.detach(), torch.ones(2, 2))


def test_anything_but_matrices_is_refused():
    with pytest.raises(ValueError, match=r"Muon takes matrices; got a parameter of shape \(3,\)"):
        Muon([torch.nn.Parameter(torch.zeros(3))])


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.9 on")
@pytest.mark.parametrize("shape", [(16, 64), (64, 16)])
def test_torchs_own_makes_the_same_steps_but_for_its_rounding(shape):
    generator = torch.Generator().manual_seed(0)
    weight, gradients = (torch.randn(*n, *shape, generator=generator) for n in ((), (3,)))
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.5}
    ends = []
    for make in (Muon, lambda *a, **k: torch.optim.Muon(*a, adjust_lr_fn="match_rms_adamw", **k)):
        parameter = torch.nn.Parameter(weight.clone())
        optimizer = make([parameter], **settings)
        for gradient in gradients:
            parameter.grad = gradient.clone()
            optimizer.step()
        ends.append(parameter.detach() - weight * (1 - 0.1 * 0.5) ** 3)
    ours, theirs = ends
    difference = (ours - theirs).norm() / ours.norm()
    assert difference.item() == pytest.approx(0.012, abs=0.003)  # bfloat16 has 8 bits
