"""A strip of frames: every frame under its part of the map, all on one scale."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from captum_ib.visualization import Scale, Style, enlarged, frames, overlay


def pictures(figure):
    return [ax.images[0].get_array() for ax in figure.axes if ax.images and ax.get_title()]


def video(n):
    return np.random.default_rng(0).random((n, 8, 8, 3))


def test_each_frame_has_its_tubelet_on_one_scale():
    values = np.zeros((2, 2, 2))
    values[0, 0, 0], values[1, 1, 1] = 8.0, 4.0
    seen = video(4)
    drawn = pictures(frames(seen, values))
    scale = Scale.of(values, unit="bits")
    for place, picture in enumerate(drawn):
        expected = overlay(enlarged(seen[place]), values[place // 2], scale=scale)
        assert np.allclose(picture, expected)
    texts = [text.get_text() for text in frames(seen, values).texts]
    assert "12 bits" in texts and texts.count("0 to 8") == 2 and texts.count("0 to 4") == 2


def test_slices_become_grey_and_rows_wrap():
    figure = frames(np.full((5, 6, 6), 0.5), torch.zeros(1, 1, 5, 3, 3), style=Style(columns=2))
    shown = pictures(figure)
    assert len(shown) == 5
    assert np.allclose(shown[0], np.array(to_rgb("0.5")))
    lefts = [round(ax.get_position().x0, 6) for ax in figure.axes if ax.get_title()]
    assert lefts[0] == lefts[2] == lefts[4] < lefts[1] == lefts[3]


def test_names_title_and_signs():
    values = np.array([[[1.0]], [[-2.0]]])
    figure = frames(video(2), values, unit="logits", names=["day 1", "day 2"], title="Two scans")
    assert [ax.get_title() for ax in figure.axes if ax.get_title()] == ["day 1", "day 2"]
    texts = [text.get_text() for text in figure.texts]
    assert "Two scans" in texts and "−1 logits" in texts


@pytest.mark.parametrize(
    ("images", "values", "options", "message"),
    [
        (video(3), np.zeros((2, 2, 2)), {}, r"shape \(2, 2, 2\) does not fit 3 frames"),
        (video(2), np.zeros((2, 1, 2, 2, 2)), {}, r"\(d, h, w\) of one sample"),
        (video(2), np.zeros((2, 2, 2)), {"names": ["a"]}, "given 1 names for 2 frames"),
        (video(0), np.zeros((2, 2, 2)), {}, "does not fit 0 frames"),
        (video(2), np.full((2, 2, 2), -1.0), {"signed": False}, "negative values"),
    ],
)
def test_what_does_not_fit_is_said(images, values, options, message):
    with pytest.raises(ValueError, match=message):
        frames(images, values, **options)
