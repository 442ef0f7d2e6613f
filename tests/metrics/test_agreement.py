"""SSIM against scikit-image, linear CKA against its other formula, winners by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from captum_ib.metrics import layer_agreement, layer_winners, linear_cka, ssim


@pytest.mark.parametrize("window", [3, 7, 11])
def test_ssim_equals_scikit_image(window):
    rng = np.random.default_rng(0)
    first = rng.random((4, 24, 31))
    second = np.clip(first + rng.normal(0, 0.2, first.shape), 0, 1)
    expected = [
        structural_similarity(a, b, data_range=1.0, win_size=window)
        for a, b in zip(first, second, strict=True)
    ]
    found = ssim(first, second, window=window)
    np.testing.assert_allclose(found, _inside(first, second, window), rtol=1e-9)
    # scikit-image crops (window − 1)/2 at each side, as "windows that lie inside" does.
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def _inside(first, second, window):
    """The definition, window by window."""
    scores = []
    for a, b in zip(first, second, strict=True):
        local = []
        for i in range(a.shape[0] - window + 1):
            for j in range(a.shape[1] - window + 1):
                x, y = (m[i : i + window, j : j + window].ravel() for m in (a, b))
                cov = np.cov(x, y)
                top = (2 * x.mean() * y.mean() + 1e-4) * (2 * cov[0, 1] + 9e-4)
                low = (x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (cov[0, 0] + cov[1, 1] + 9e-4)
                local.append(top / low)
        scores.append(np.mean(local))
    return scores


def test_ssim_data_range():
    rng = np.random.default_rng(1)
    first, second = rng.random((2, 1, 16, 16))
    torch.testing.assert_close(ssim(first, second), ssim(255 * first, 255 * second, data_range=255))


def test_linear_cka_equals_its_feature_space_form():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 5, generator=generator), torch.randn(12, 3, 2, generator=generator)
    a, b = (z.flatten(1) - z.flatten(1).mean(0) for z in (x, y))
    expected = (b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())
    assert linear_cka(x, y) == pytest.approx(float(expected), rel=1e-5)


def test_linear_cka_ignores_rotation_and_scale():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(10, 4, generator=generator)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator))[0]
    assert linear_cka(x, 3 * x @ rotation + 7) == pytest.approx(1.0, rel=1e-5)
    assert np.isnan(linear_cka(x, torch.ones(10, 2)))


def test_agreement_of_layers():
    rng = np.random.default_rng(0)
    maps = {"a": rng.random((5, 1, 16, 16)), "b": rng.random((5, 16, 16))}
    maps["c"] = 4 * maps["a"] + 1  # the same map in other units
    found = layer_agreement(maps)
    assert found.names == ("a", "b", "c")
    np.testing.assert_allclose(np.diag(found.ssim), 1)
    assert found.ssim[0, 2] == pytest.approx(1.0)
    assert found.cka[0, 2] == pytest.approx(1.0)
    scaled = [(m - m.min()) / (m.max() - m.min()) for m in (maps["a"][3, 0], maps["b"][3])]
    one = layer_agreement({"a": maps["a"][[3, 3]], "b": maps["b"][[3, 3]]}).ssim[0, 1]
    assert one == pytest.approx(structural_similarity(*scaled, data_range=1.0, win_size=7))
    np.testing.assert_array_equal(found.ssim, found.ssim.T)


def test_agreement_leaves_constant_maps_out():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 3, 16, 16))
    b[1] = 0.0
    left = layer_agreement({"a": a, "b": b}).ssim[0, 1]
    assert left == layer_agreement({"a": a[[0, 2]], "b": b[[0, 2]]}).ssim[0, 1]
    assert np.isnan(layer_agreement({"a": a, "b": np.zeros_like(b)}).ssim[0, 1])


def test_winners():
    scores = {"early": [1.0, 5.0, np.nan, 2.0], "late": [2.0, 3.0, np.nan, 2.0]}
    found = layer_winners({name: np.array(row) for name, row in scores.items()})
    assert found.winner.tolist() == [1, 0, -1, 0]
    np.testing.assert_allclose(found.share, [2 / 3, 1 / 3])
    lower = layer_winners(scores, higher_is_better=False)
    assert lower.winner.tolist() == [0, 1, -1, 0]


class TestBadInput:
    def test_shapes(self):
        x = np.zeros((2, 8, 8))
        with pytest.raises(ValueError, match="differ in shape"):
            ssim(x, np.zeros((2, 8, 9)))
        with pytest.raises(ValueError, match=r"expected maps \(N, H, W\)"):
            ssim(x[0], x[0])
        with pytest.raises(ValueError, match="window must be odd"):
            ssim(x, x, window=9)
        with pytest.raises(ValueError, match="at least 3 pixels"):
            ssim(x, x, window=1)
        with pytest.raises(ValueError, match="two or more samples"):
            linear_cka(x, x[:1])
        with pytest.raises(ValueError, match="at least two layers"):
            layer_agreement({"a": x})
        with pytest.raises(ValueError, match="one score per sample and layer"):
            layer_winners({"a": np.zeros(3), "b": np.zeros(4)})

    def test_nan(self):
        x = np.zeros((2, 8, 8))
        with pytest.raises(ValueError, match="'b' holds NaN"):
            layer_agreement({"a": x, "b": x * np.nan})
