"""Scales and overlays: limits, the colour of 0, the mixture with the image, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution
from matplotlib import colormaps

from captum_ib.visualization import Scale, overlay

GREY = np.full((8, 12, 3), 0.5)


def test_limits_of_bits_start_at_zero():
    assert Scale.of(np.array([[0.5, 3.0]])) == Scale(0.0, 3.0, "viridis")


def test_limits_of_signed_maps_are_symmetric():
    assert Scale.of(np.array([[-0.5, 3.0]])) == Scale(-3.0, 3.0, "RdBu_r")
    assert Scale.of(np.array([[0.5, 3.0]]), signed=True) == Scale(-3.0, 3.0, "RdBu_r")


def test_constant_maps():
    assert Scale.of(np.zeros((2, 2))) == Scale(0.0, 1.0, "viridis")
    assert Scale.of(np.zeros((2, 2)), signed=True) == Scale(-1.0, 1.0, "RdBu_r")
    assert Scale.of(np.full((2, 2), 4.0)) == Scale(0.0, 4.0, "viridis")
    assert np.allclose(overlay(GREY, np.zeros((2, 2)), opacity=1), colormaps["viridis"](0.0)[:3])
    assert np.allclose(
        overlay(GREY, np.full((2, 2), 4.0), opacity=1), colormaps["viridis"](1.0)[:3]
    )


def test_zero_of_a_signed_map_has_the_middle_colour():
    values = np.array([-1.0, 0.0, 4.0])
    colors = Scale.of(values).colors(values)
    assert np.array_equal(colors[1], colormaps["RdBu_r"](0.5)[:3])
    assert np.array_equal(colors[2], colormaps["RdBu_r"](1.0)[:3])
    assert colors[0][2] > colors[0][0] and colors[2][0] > colors[2][2]  # blue below, red above


def test_overlay_mixes_colour_and_grey_image():
    image = np.zeros((2, 2, 3))
    image[0, 0] = (1.0, 0.0, 0.0)
    map_ = np.array([[2.0, 0.0], [0.0, 1.0]])
    result = overlay(image, map_, opacity=0.25)
    top, zero = np.array(colormaps["viridis"](1.0)[:3]), np.array(colormaps["viridis"](0.0)[:3])
    assert np.allclose(result[0, 0], 0.75 * 0.299 + 0.25 * top)  # red in grey: BT.601
    assert np.allclose(result[0, 1], 0.25 * zero)
    assert np.array_equal(overlay(image, map_, opacity=0.0)[0, 0], np.full(3, 0.299))


def test_a_shared_scale_makes_maps_comparable():
    scale = Scale(0.0, 10.0)
    half = overlay(GREY, np.full((2, 2), 5.0), opacity=1, scale=scale)
    assert np.allclose(half, colormaps["viridis"](0.5)[:3])


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 5), (1, 1, 3, 5)])
def test_upsampling_is_captums_bilinear(shape):
    torch.manual_seed(0)
    map_ = torch.rand(shape, dtype=torch.float64)
    scale = Scale(0.0, 1.0)
    captums = LayerAttribution.interpolate(map_.reshape(1, 1, 3, 5), (8, 12), "bilinear")[0, 0]
    expected = scale.colors(captums.numpy())
    assert np.array_equal(overlay(GREY, map_, opacity=1, scale=scale), expected)


def test_tensors_and_arrays_and_both_channel_orders_agree():
    rng = np.random.default_rng(0)
    image, map_ = rng.random((5, 7, 3)), rng.random((5, 7))
    expected = overlay(image, map_)
    chw = np.ascontiguousarray(image.transpose(2, 0, 1))
    assert np.allclose(overlay(chw, map_), expected, rtol=0, atol=1e-15)
    tensors = torch.from_numpy(chw), torch.from_numpy(map_)
    assert np.allclose(overlay(*tensors), expected, rtol=0, atol=1e-15)


def test_ambiguous_images_are_channels_first_as_tensors_only():
    image = np.zeros((3, 4, 3))
    image[..., 0] = 1.0  # red if the last axis is the channel
    assert np.allclose(overlay(image, np.zeros((2, 2)), opacity=0), 0.299)
    with pytest.raises(ValueError, match="attribution"):
        overlay(image, np.zeros((2, 2, 2)))
    assert overlay(torch.zeros(3, 4, 3), np.zeros((2, 2))).shape == (4, 3, 3)


def test_half_precision_tensors_that_require_grad():
    map_ = torch.tensor([[1.0, 0.0]], dtype=torch.bfloat16, requires_grad=True)
    assert overlay(torch.ones(3, 4, 4, dtype=torch.bfloat16), map_).shape == (4, 4, 3)


@pytest.mark.parametrize(
    ("image", "attribution", "error", "message"),
    [
        (GREY, np.zeros((2, 2, 2)), ValueError, r"one image at a time\), got \(2, 2, 2\)"),
        (GREY, np.zeros((2, 1, 3, 3)), ValueError, r"got \(2, 1, 3, 3\)"),
        (GREY, np.zeros(4), ValueError, r"got \(4,\)"),
        (GREY, np.zeros((0, 3)), ValueError, r"got \(0, 3\)"),
        (GREY, np.array([[np.nan]]), ValueError, "attribution holds NaN or inf"),
        (GREY, np.array([[np.inf]]), ValueError, "attribution holds NaN or inf"),
        (GREY, [[1.0]], TypeError, "attribution must be a tensor or a numpy array, got list"),
        (
            np.zeros((4, 4)),
            np.zeros((2, 2)),
            ValueError,
            r"\(3, H, W\) or \(H, W, 3\), got \(4, 4\)",
        ),
        (np.zeros((4, 4, 4)), np.zeros((2, 2)), ValueError, r"got \(4, 4, 4\)"),
        (GREY * 3, np.zeros((2, 2)), ValueError, r"got \[1.5, 1.5\]; undo the model's norm"),
        (np.full((4, 4, 3), np.nan), np.zeros((2, 2)), ValueError, "image holds NaN"),
        ((GREY * 255).astype(np.uint8), np.zeros((2, 2)), TypeError, "uint8; divide by 255"),
        ("x.png", np.zeros((2, 2)), TypeError, "image must be a tensor .* got str"),
    ],
)
def test_bad_input(image, attribution, error, message):
    with pytest.raises(error, match=message):
        overlay(image, attribution)


def test_bad_options():
    with pytest.raises(ValueError, match=r"opacity must lie in \[0, 1\], got 1.5"):
        overlay(GREY, np.zeros((2, 2)), opacity=1.5)
    with pytest.raises(ValueError, match=r"negative values \(down to -1\).*pass signed=True"):
        overlay(GREY, np.array([[-1.0, 2.0]]), signed=False)
    with pytest.raises(ValueError, match=r"attribution is empty, shape \(0,\)"):
        Scale.of(np.zeros(0))
