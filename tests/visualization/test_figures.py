"""Figures: what is drawn where, in which colour, and that files are whole or not there."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from captum_ib.visualization import Panel, Scale, caption, compare, grid, overlay, save

IMAGE = np.random.default_rng(0).random((3, 16, 16))
WORDS = ["a", "red", "circle"]


@pytest.fixture
def ax():
    return Figure(figsize=(4, 1)).add_axes((0, 0, 1, 1))


def panel(**changes) -> Panel:
    return Panel(**{"title": "M2IB", "attribution": np.eye(4), **changes})


def test_words_stand_on_the_colour_of_their_value(ax):
    words = caption(ax, WORDS, np.array([0.0, 1.0, 2.0]))
    boxes = [word.get_bbox_patch().get_facecolor()[:3] for word in words]
    assert np.allclose(boxes, [colormaps["viridis"](x)[:3] for x in (0.0, 0.5, 1.0)])
    assert [word.get_color() for word in words] == ["white", "black", "black"]


def test_words_are_written_in_the_colour_with_more_contrast(ax):
    # Contrast (WCAG 2): white on (0.4, 0.4, 0.4) has 5.7, black 3.7; on (0.5, 0.5, 0.5) 4.0, 5.3.
    grey = [
        caption(ax, ["x"], np.array([level]), scale=Scale(0.0, 1.0, "gray"))[0].get_color()
        for level in (0.4, 0.5)
    ]
    assert grey == ["white", "black"]


def test_signed_words_are_centred_on_zero(ax):
    words = caption(ax, WORDS, torch.tensor([[-1.0, 0.0, 2.0]]))
    boxes = [word.get_bbox_patch().get_facecolor()[:3] for word in words]
    assert np.allclose(boxes, [colormaps["RdBu_r"](x)[:3] for x in (0.25, 0.5, 1.0)])


def test_words_follow_each_other_and_wrap(ax):
    words = caption(ax, WORDS, np.zeros(3), columns=7)
    assert [word.get_position() for word in words] == [(0, 0.5), (2, 0.5), (0, 1.5)]
    assert ax.get_ylim() == (2, 0)


def test_letters_fill_the_width(ax):
    word = caption(ax, ["x" * 20], np.zeros(1), columns=20)[0]
    # 20 monospaced letters over 4 inches: 14.4 points each, 0.602 of the font size.
    assert word.get_fontsize() == pytest.approx(14.4 / 0.602)
    assert word.get_window_extent(ax.figure._get_renderer()).width == pytest.approx(400, rel=0.05)


def test_dollar_signs_are_no_formulas(ax):
    assert not caption(ax, ["$x$"], np.zeros(1))[0].get_parse_math()


@pytest.mark.parametrize(
    ("tokens", "values", "message"),
    [
        (WORDS, np.zeros(2), r"one value per word, shape \(3,\) or \(1, 3\), got \(2,\)"),
        (WORDS, np.zeros((3, 1)), r"got \(3, 1\)"),
        ([], np.zeros(0), r"got \(0,\)"),
        (WORDS, np.array([0, np.nan, 0]), "token attribution holds NaN"),
    ],
)
def test_bad_captions(ax, tokens, values, message):
    with pytest.raises(ValueError, match=message):
        caption(ax, tokens, values)


def test_compare_shows_image_overlays_captions_and_units():
    signed = np.array([[-2.0, 1.0], [0.0, 0.5]])
    figure = compare(
        IMAGE,
        [
            panel(tokens=WORDS, token_attribution=np.array([1.0, 2.0, 3.0])),
            panel(title="NIB", attribution=signed, unit="output units"),
        ],
        title="a red circle",
    )
    picture, m2ib, m2ib_bar, words, words_bar, nib, nib_bar = figure.axes
    assert [ax.get_title() for ax in (picture, m2ib, nib)] == ["a red circle", "M2IB", "NIB"]
    assert np.array_equal(picture.images[0].get_array(), IMAGE.transpose(1, 2, 0))
    assert np.array_equal(m2ib.images[0].get_array(), overlay(IMAGE, np.eye(4)))
    assert [text.get_text() for text in words.texts] == WORDS
    labels = [
        [label.get_text() for label in bar.get_xticklabels()]
        for bar in (m2ib_bar, words_bar, nib_bar)
    ]
    assert labels == [["0", "0.5 bits", "1"], ["0", "1.5 bits", "3"], ["-2", "0 output units", "2"]]


def test_grid_puts_rows_below_each_other():
    figure = grid([IMAGE, IMAGE], [[panel()], [panel(), panel()]], titles=["one", "two"])
    one, two = (ax for ax in figure.axes if ax.get_title() in ("one", "two"))
    assert one.get_position().x0 == two.get_position().x0
    assert one.get_position().y0 > two.get_position().y1
    assert len(figure.axes) == 2 + 2 * 3


def test_no_axes_overlap():
    title = "a long caption " * 6
    rows = [[panel(tokens=WORDS * 5, token_attribution=np.ones(15))] * 2] * 2
    boxes = [ax.get_position() for ax in grid([IMAGE] * 2, rows, titles=[title] * 2).axes]
    for i, first in enumerate(boxes):
        for second in boxes[i + 1 :]:
            apart = (
                first.x1 <= second.x0
                or second.x1 <= first.x0
                or first.y1 <= second.y0 + 1e-9
                or second.y1 <= first.y0 + 1e-9
            )
            assert apart


@pytest.mark.parametrize(
    ("images", "rows", "titles"),
    [
        ([], [], None),
        ([IMAGE], [], None),
        ([IMAGE], [[]], None),
        ([IMAGE], [[panel()]], ["a", "b"]),
    ],
)
def test_grid_needs_a_row_per_image(images, rows, titles):
    with pytest.raises(ValueError, match="for each a row of panels and a title"):
        grid(images, rows, titles=titles)


def test_words_and_values_belong_together():
    with pytest.raises(ValueError, match="'M2IB': tokens and token_attribution belong together"):
        panel(tokens=WORDS)


def test_save_writes_a_picture(tmp_path):
    path = save(compare(IMAGE, [panel()]), tmp_path / "x.png", dpi=50)
    with Image.open(path) as picture:
        # Two cells of 2.6 and three gaps of 0.35 inches at 50 dots.
        assert picture.size[0] == pytest.approx(50 * (2 * 2.6 + 3 * 0.35), abs=1)
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]


def test_save_leaves_the_old_file_when_it_fails(tmp_path):
    (tmp_path / "x.nothing").write_text("old")
    with pytest.raises(ValueError, match="nothing"):
        save(compare(IMAGE, [panel()]), tmp_path / "x.nothing")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_save_needs_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no/x\.png: the folder .*no does not exist"):
        save(compare(IMAGE, [panel()]), tmp_path / "no" / "x.png")


def test_pyplot_is_never_touched(tmp_path):
    save(compare(IMAGE, [panel()]), tmp_path / "x.png")
    plt = sys.modules.get("matplotlib.pyplot")
    assert plt is None or plt.get_fignums() == []
