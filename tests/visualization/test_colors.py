"""Scales and overlays: limits, the colour of 0, the mixture with the image, and bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution
from matplotlib import colormaps

from captum_ib.visualization import Scale, Style, overlay, pooled

GREY = np.full((8, 12, 3), 0.5)
PURE = Style(opacity=1.0)
YELLOW = np.array(colormaps["viridis"](1.0)[:3])


def test_limits_of_bits_start_at_zero():
    assert Scale.of(np.array([[0.5, 3.0]])) == Scale(0.0, 3.0, "viridis")


def test_limits_of_maps_with_both_signs_are_symmetric():
    assert Scale.of(np.array([[-0.5, 3.0]])) == Scale(-3.0, 3.0, "RdBu_r")


@pytest.mark.parametrize("signed", [True, None])
def test_a_map_of_one_sign_is_not_drawn_on_both_sides_of_zero(signed):
    assert Scale.of(np.array([[0.5, 3.0]]), signed) == Scale(0.0, 3.0, "viridis")
    assert Scale.of(np.array([[-0.5, -3.0]]), signed) == Scale(-3.0, 0.0, "Blues_r")


def test_a_map_that_varies_little_starts_at_its_weakest_value():
    # RISE: the score under most masks is much the same; from 0 on it would be one solid square.
    assert Scale.of(np.array([[0.41, 0.53]])) == Scale(0.41, 0.53, "viridis", zero=0.41)
    assert Scale.of(np.array([[-0.41, -0.53]])) == Scale(-0.53, -0.41, "Blues_r", zero=-0.41)
    assert Scale.of(np.array([[0.41, 0.53]])).from_zero() == Scale(0.0, 0.53, "viridis")
    shown = overlay(GREY, np.array([[0.41, 0.53]]), style=PURE)
    assert np.allclose(shown[:, 0], GREY[:, 0])  # the weakest is transparent
    assert np.allclose(shown[:, -1], colormaps["viridis"](1.0)[:3])


def test_bits_are_not_stretched_below_one():
    assert Scale.of(np.array([[0.1, 0.2]]), unit="bits") == Scale(0.0, 1.0, "viridis")
    assert Scale.of(np.array([[0.1, 0.2]]), unit="logits") == Scale(0.0, 0.2, "viridis")
    assert Scale.of(np.array([[6.0, 7.0]]), unit="bits") == Scale(0.0, 7.0, "viridis")


def test_outliers_are_clipped_at_a_percentile_and_small_maps_are_not():
    values = np.arange(1000.0)
    values[999] = 1e6
    assert Scale.of(values) == Scale(0.0, 995.0, "viridis", clipped=99.5)
    assert Scale.of(values, style=Style(percentile=100)) == Scale(0.0, 1e6, "viridis")
    few = np.zeros((14, 14))
    few[0, 0] = 9.0  # 1 of 196 cells is more than 0.5 %, and stays
    assert Scale.of(few) == Scale(0.0, 9.0, "viridis")
    most = np.zeros(1000)
    most[0] = 9.0  # the percentile is 0: nothing would be left
    assert Scale.of(most) == Scale(0.0, 9.0, "viridis")


def test_constant_maps():
    assert Scale.of(np.zeros((2, 2))) == Scale(0.0, 1.0, "viridis")
    assert Scale.of(np.zeros((2, 2)), signed=True) == Scale(0.0, 1.0, "viridis")
    assert Scale.of(np.full((2, 2), 4.0)) == Scale(0.0, 4.0, "viridis")
    assert np.allclose(overlay(GREY, np.zeros((2, 2)), style=PURE), GREY)
    assert np.allclose(overlay(GREY, np.full((2, 2), 4.0), style=PURE), YELLOW)


def test_zero_of_a_signed_map_has_the_middle_colour():
    values = np.array([-1.0, 0.0, 4.0])
    colors = Scale.of(values).colors(values)
    assert np.array_equal(colors[1], colormaps["RdBu_r"](0.5)[:3])
    assert np.array_equal(colors[2], colormaps["RdBu_r"](1.0)[:3])
    assert colors[0][2] > colors[0][0] and colors[2][0] > colors[2][2]  # blue below, red above


def test_overlay_mixes_colours_with_the_picture_and_leaves_zero_out():
    image = np.zeros((2, 2, 3))
    image[0] = (1.0, 0.0, 0.0)
    map_ = np.array([[4.0, 0.0], [1.0, 2.0]])
    result = overlay(image, map_, style=Style(opacity=0.5))
    assert np.allclose(result[0, 0], 0.5 * np.array([1.0, 0.0, 0.0]) + 0.5 * YELLOW)
    assert np.allclose(result[0, 1], (1.0, 0.0, 0.0))  # 0: the photograph in colour
    # Half the opacity at a quarter of the scale, all of it from half the scale on.
    assert np.allclose(result[1, 0], 0.25 * np.array(colormaps["viridis"](0.25)[:3]))
    assert np.allclose(result[1, 1], 0.5 * np.array(colormaps["viridis"](0.5)[:3]))


def test_the_picture_in_grey():
    image = np.zeros((2, 2, 3))
    image[..., 0] = 1.0
    shown = overlay(image, np.array([[0.0, 4.0], [0.0, 0.0]]), style=Style(opacity=1, grey=True))
    assert np.allclose(shown[0, 0], 0.299)  # red in grey: BT.601
    assert np.allclose(shown[0, 1], YELLOW)


def test_what_remains_is_the_picture_where_the_map_is_strong():
    image = np.full((1, 3, 3), 0.8)
    shown = overlay(image, np.array([[0.0, 2.0, 4.0]]), style=Style(masked=True))
    assert np.allclose(shown[0, :, 0], [0.12, 0.5 * 0.8 + 0.5 * 0.12, 0.8])
    shown = overlay(image, np.array([[-4.0, 2.0, 4.0]]), style=Style(masked=True))
    assert np.allclose(shown[0, :, 0], [0.12, 0.5 * 0.8 + 0.5 * 0.12, 0.8])  # for, not against


def test_contours_are_white_lines_in_a_dark_seam():
    image = np.full((9, 9, 3), 0.5)
    map_ = np.zeros((9, 9))
    map_[4, 4] = 1.0
    shown = overlay(image, map_, style=Style(contours=1, opacity=0))[4, :, 0]
    assert np.allclose(shown, [0.5, 0.5, 0.175, 1.0, 0.175, 1.0, 0.175, 0.5, 0.5])


def test_fine_maps_are_pooled_for_display():
    values, block = pooled(np.arange(32.0 * 32).reshape(32, 32))
    assert block == 1 and values[0, 1] == 1.0
    fine = np.zeros((224, 224))
    fine[:7, 7:14] = 16.0
    values, block = pooled(fine)
    assert (values.shape, block, values[0, 1], values.sum()) == ((32, 32), 7, 16.0, 16.0)
    cut, block = pooled(np.ones((5, 3)), cells=2)  # the last blocks are smaller
    assert block == 3 and np.array_equal(cut, np.ones((2, 1)))


def test_a_custom_colour_map_goes_to_the_maps_that_it_fits():
    one, both = np.array([1.0, 2.0]), np.array([-1.0, 2.0])
    for cmap, expected in (("magma", ("magma", "RdBu_r")), ("PuOr_r", ("viridis", "PuOr_r"))):
        style = Style(cmap=cmap)
        assert (Scale.of(one, style=style).cmap, Scale.of(both, style=style).cmap) == expected
    assert Scale.of(-one, style=Style(cmap="magma")).cmap == "magma_r"


def test_a_shared_scale_makes_maps_comparable():
    scale = Scale(0.0, 10.0)
    half = overlay(GREY, np.full((2, 2), 5.0), style=PURE, scale=scale)
    assert np.allclose(half, colormaps["viridis"](0.5)[:3])


@pytest.mark.parametrize("shape", [(3, 5), (1, 3, 5), (1, 1, 3, 5)])
def test_upsampling_is_captums_bilinear(shape):
    torch.manual_seed(0)
    map_ = 0.5 + torch.rand(shape, dtype=torch.float64) / 2  # from half on, colours are opaque
    scale = Scale(0.0, 1.0)
    captums = LayerAttribution.interpolate(map_.reshape(1, 1, 3, 5), (8, 12), "bilinear")[0, 0]
    expected = scale.colors(captums.numpy())
    assert np.array_equal(overlay(GREY, map_, style=PURE, scale=scale), expected)


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
    assert np.array_equal(overlay(image, np.zeros((2, 2))), image)
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
    with pytest.raises(ValueError, match=r"negative values \(down to -1\).*pass signed=True"):
        overlay(GREY, np.array([[-1.0, 2.0]]), signed=False)
    with pytest.raises(ValueError, match=r"attribution is empty, shape \(0,\)"):
        Scale.of(np.zeros(0))
