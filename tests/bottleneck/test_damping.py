"""λ from α: smoothing against scipy, area averages against torch, sharing over resolutions."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from captum_ib.bottleneck import Damping, GridOperator, Site
from captum_ib.bottleneck.damping import area_matrix, gaussian_matrix


def test_gaussian_matrix_equals_scipy_with_mirrored_borders():
    image = torch.rand(7, 5, dtype=torch.float64)
    rows, columns = gaussian_matrix(7, 1.0).double(), gaussian_matrix(5, 1.0).double()
    expected = gaussian_filter(image.numpy(), 1.0, mode="mirror", truncate=2.0)
    assert torch.allclose(rows @ image @ columns.T, torch.from_numpy(expected), atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 3, 9])
def test_gaussian_matrix_rows_are_weights(size):
    matrix = gaussian_matrix(size, 1.3)
    assert matrix.ge(0).all()
    assert torch.allclose(matrix.sum(dim=1), torch.ones(size))


def test_area_matrix_equals_pooling_and_weights_partial_cells():
    image = torch.rand(1, 1, 8, 12)
    pooled = area_matrix(8, 4) @ image[0, 0] @ area_matrix(12, 3).T
    expected = torch.nn.functional.adaptive_avg_pool2d(image, (4, 3))[0, 0]
    assert torch.allclose(pooled, expected, atol=1e-6)
    assert torch.allclose(area_matrix(3, 2)[0], torch.tensor([2 / 3, 1 / 3, 0.0]))


def test_area_matrix_refuses_to_refine():
    with pytest.raises(ValueError, match="from fine to coarse, given 4 → 8"):
        area_matrix(4, 8)


def test_smoothed_gate_is_the_smoothed_share_of_noise():
    damping = Damping((1, 1, 5, 5), smoothing=GridOperator(*[gaussian_matrix(5, 1.0)] * 2))
    with torch.no_grad():
        damping.alpha.copy_(torch.randn(1, 1, 5, 5) * 3)
        gate = damping.gate(0)
        closed = torch.sigmoid(-damping.alpha[0, 0].double())
        matrix = gaussian_matrix(5, 1.0).double()
    expected = (matrix @ closed @ matrix.T).float()
    assert torch.allclose(gate.drop[0, 0], expected, atol=1e-6)
    assert torch.allclose(gate.log_drop[0, 0], expected.log(), atol=1e-5)
    assert torch.allclose(gate.keep + gate.drop, torch.ones(1))


def test_smoothing_does_not_underflow_at_extreme_alpha():
    damping = Damping((1, 1, 5, 5), smoothing=GridOperator(*[gaussian_matrix(5, 1.0)] * 2))
    with torch.no_grad():
        damping.alpha.fill_(300.0)
    gate = damping.gate(0)
    assert torch.allclose(gate.log_drop, torch.full((1, 1, 5, 5), -300.0))
    (gradient,) = torch.autograd.grad(gate.log_drop.sum(), damping.alpha)
    assert torch.isfinite(gradient).all()


def test_a_coarser_site_reads_the_area_average_and_the_prefix_as_it_is():
    pool = GridOperator(area_matrix(4, 2), area_matrix(4, 2), prefix=1, grid=(4, 4))
    damping = Damping((1, 17, 1), [Site(), Site(pool)])
    with torch.no_grad():
        damping.alpha.copy_(torch.randn(1, 17, 1))
    fine, coarse = damping.gate(0), damping.gate(1)
    assert coarse.drop.shape == (1, 5, 1)
    assert torch.allclose(coarse.drop[:, 0], fine.drop[:, 0])
    grid = fine.drop[:, 1:].reshape(1, 1, 4, 4)
    expected = torch.nn.functional.avg_pool2d(grid, 2).reshape(1, 4, 1)
    assert torch.allclose(coarse.drop[:, 1:], expected, atol=1e-6)
