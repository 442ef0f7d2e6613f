"""λ from α: smoothing against scipy, area averages against torch, sharing over resolutions."""

import pytest
import torch
from scipy.ndimage import gaussian_filter

from captum_ib.bottleneck import Damping
from captum_ib.bottleneck.grids import area_matrix, gaussian_matrix
from captum_ib.layout import TokenLayout


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


def smoothed(size=5):
    """One λ per cell of a feature map, smoothed over one cell."""
    return Damping.shared(
        [torch.zeros(1, 1, size, size)], [TokenLayout("nchw")], uniform=False, smoothing=1.0
    )


def test_smoothed_lambda_is_one_minus_the_smoothed_share_of_noise():
    damping = smoothed()
    (alpha,) = damping.alphas
    with torch.no_grad():
        alpha.copy_(torch.randn(1, 1, 5, 5) * 3)
        ratio = damping(0)
        closed = torch.sigmoid(-alpha[0, 0].double())
        matrix = gaussian_matrix(5, 1.0).double()
    expected = (matrix @ closed @ matrix.T).float()
    assert torch.allclose(ratio.rest[0, 0], expected, atol=1e-6)
    assert torch.allclose(ratio.log_rest[0, 0], expected.log(), atol=1e-5)
    assert torch.allclose(ratio.lam + ratio.rest, torch.ones(1))


def test_smoothing_does_not_underflow_at_extreme_alpha():
    damping = smoothed()
    (alpha,) = damping.alphas
    with torch.no_grad():
        alpha.fill_(300.0)
    log_rest = damping(0).log_rest
    assert torch.allclose(log_rest, torch.full((1, 1, 5, 5), -300.0))
    (gradient,) = torch.autograd.grad(log_rest.sum(), alpha)
    assert torch.isfinite(gradient).all()


def test_a_coarser_layer_reads_the_area_average_and_the_prefix_as_it_is():
    R = [torch.zeros(1, 17, 3), torch.zeros(1, 5, 3)]
    layouts = [TokenLayout("tokens", 1, (4, 4)), TokenLayout("tokens", 1, (2, 2))]
    damping = Damping.shared(R, layouts, uniform=True)
    with torch.no_grad():
        damping.alphas[0].copy_(torch.randn(1, 17, 1))
    fine, coarse = damping(0).rest, damping(1).rest
    assert coarse.shape == (1, 5, 1)
    assert torch.allclose(coarse[:, 0], fine[:, 0])
    grid = fine[:, 1:].reshape(1, 1, 4, 4)
    expected = torch.nn.functional.avg_pool2d(grid, 2).reshape(1, 4, 1)
    assert torch.allclose(coarse[:, 1:], expected, atol=1e-6)
