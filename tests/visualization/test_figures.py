"""Figures: what is drawn where, in which colour, and that files are whole or not there."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from captum_ib.visualization import (
    Panel,
    Passage,
    Scale,
    Style,
    caption,
    compare,
    grid,
    overlay,
    pooled,
    save,
    texts,
)

IMAGE = np.random.default_rng(0).random((3, 16, 16))
WORDS = ["a", "red", "circle"]


@pytest.fixture
def ax():
    return Figure(figsize=(4, 1)).add_axes((0, 0, 1, 1))


def panel(**changes) -> Panel:
    return Panel(**{"title": "M2IB", "attribution": np.eye(4), **changes})


def ticks(bar) -> list[str]:
    return [label.get_text() for label in bar.get_xticklabels()]


def said(figure) -> list[str]:
    """What is written beside the axes: units and limits."""
    return [text.get_text() for text in figure.texts]


def test_words_stand_on_the_colour_of_their_value(ax):
    words = caption(ax, WORDS, np.array([0.0, 1.0, 2.0]))
    boxes = [word.get_bbox_patch().get_facecolor()[:3] for word in words]
    # Over white: 0 is white, and from half of the scale on a colour has the style's opacity.
    colors = [0.25 + 0.75 * np.array(colormaps["viridis"](x)[:3]) for x in (0.5, 1.0)]
    assert np.allclose(boxes, [(1.0, 1.0, 1.0), *colors])
    assert [word.get_color() for word in words] == ["black", "black", "black"]


def test_words_are_written_in_the_colour_with_more_contrast(ax):
    # Contrast (WCAG 2): white on (0.4, 0.4, 0.4) has 5.7, black 3.7; on (0.5, 0.5, 0.5) 4.0, 5.3.
    grey = [
        caption(
            ax,
            ["x"],
            np.array([1.0]),
            scale=Scale(0.0, 1.0 / level, "gray", zero=-1e9),  # far from transparent
            style=Style(opacity=1.0),
        )[0].get_color()
        for level in (0.4, 0.5)
    ]
    assert grey == ["white", "black"]


def test_signed_words_are_centred_on_zero(ax):
    words = caption(ax, WORDS, torch.tensor([[-1.0, 0.0, 2.0]]))
    boxes = [word.get_bbox_patch().get_facecolor()[:3] for word in words]
    blue, red = (0.25 + 0.75 * np.array(colormaps["RdBu_r"](x)[:3]) for x in (0.25, 1.0))
    assert np.allclose(boxes, [blue, (1.0, 1.0, 1.0), red])


def test_words_follow_each_other_and_wrap(ax):
    words = caption(ax, WORDS, np.zeros(3), columns=7)
    assert [word.get_position() for word in words] == [(0, 0.5), (2, 0.5), (0, 1.5)]
    assert ax.get_ylim() == (2, 0)


def test_letters_fill_the_width(ax):
    word = caption(ax, ["x" * 20], np.zeros(1), columns=20)[0]
    # 20 monospaced letters and a margin of 0.6 over 4 inches; a letter is 0.602 of its size.
    assert word.get_fontsize() == pytest.approx(4 * 72 / 20.6 / 0.602)
    width = word.get_window_extent(ax.figure._get_renderer()).width
    assert width == pytest.approx(400 * 20 / 20.6, rel=0.05)


def test_a_word_longer_than_a_line_is_made_to_fit(ax):
    word = caption(ax, ["x" * 40], np.zeros(1), columns=20)[0]
    assert word.get_fontsize() == pytest.approx(4 * 72 / 20.6 / 0.602 / 2)


def test_words_with_numbers(ax):
    words = caption(ax, ["a", "ring"], np.array([0.04, 8.83]), numbers=True, columns=7)
    assert [text.get_text() for text in ax.texts] == ["a", "0.0", "ring", "8.8"]
    assert [word.get_position() for word in words] == [(0, 0.5), (0, 1.75 + 0.5)]  # 3 + 1 + 4 > 7


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
            panel(title="NIB", attribution=signed, unit="logits"),
        ],
        title="a red circle",
    )
    picture, bits_bar, logits_bar, m2ib, words, nib = figure.axes
    assert [ax.get_title() for ax in (picture, m2ib, nib)] == ["a red circle", "M2IB", "NIB"]
    large = IMAGE.transpose(1, 2, 0).repeat(28, axis=0).repeat(28, axis=1)  # 16 pixels → 448
    assert np.array_equal(picture.images[0].get_array(), large)
    assert np.array_equal(m2ib.images[0].get_array(), overlay(large, np.eye(4)))
    assert [text.get_text() for text in words.texts] == ["a", "1.0", "red", "2.0", "circle", "3.0"]
    # One bar per unit: with numbers where it stands for one scale.
    assert [ticks(bar) for bar in (bits_bar, logits_bar)] == [["0", "most"], ["−2", "2"]]
    assert said(figure) == [
        "bits",
        "logits",
        "0 to 1 · 4 in all",
        "words: 0 to 3 · 6 in all",
        "−2 to 2",
    ]


def test_maps_of_one_unit_stand_together_and_the_unit_is_said_once():
    unit = {"A": "bits", "B": "logits", "C": "bits"}
    figure = compare(IMAGE, [panel(title=title, unit=unit[title]) for title in unit])
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == ["A", "C", "B"]
    assert [text for text in said(figure) if text in ("bits", "logits")] == ["bits", "logits"]


@pytest.mark.parametrize(("panels", "columns", "width"), [(22, 5, 5), (5, 5, 3), (5, 3, 3)])
def test_rows_wrap_into_about_equal_lines(panels, columns, width):
    # 22 methods and the picture are 23 cells: 5 lines of 5; 6 cells are 2 lines of 3.
    figure = compare(IMAGE, [panel()] * panels, style=Style(columns=columns))
    assert figure.get_size_inches()[0] == pytest.approx(width * 2.45 + 0.25)
    left = {round(ax.get_position().x0, 4) for ax in figure.axes if ax.get_title() == "M2IB"}
    assert len(left) == width


def test_what_colours_cannot_say_stands_in_the_map():
    maps = {
        "zero": (np.zeros((4, 4)), "relative"),
        "constant": (np.full((4, 4), 4.0), "relative"),
        "nothing": (0.2 * np.eye(4), "bits"),
        "fine": (3 * np.eye(4), "bits"),
    }
    figure = compare(IMAGE, [Panel(title, values, unit) for title, (values, unit) in maps.items()])
    marks = {
        ax.get_title(): [text.get_text() for text in ax.texts] + [len(ax.patches)]
        for ax in figure.axes
        if ax.get_title() in maps
    }
    assert marks == {
        "zero": ["0 everywhere", 0],
        "constant": ["4 everywhere", 0],
        "nothing": ["collapsed: at most 0.2 bits", 1],  # in a frame
        "fine": [0],
    }


def test_a_map_that_is_told_to_be_collapsed_is_marked():
    figure = compare(IMAGE, [panel(attribution=9 * np.eye(4), collapsed=True)])
    (ax,) = (ax for ax in figure.axes if ax.get_title() == "M2IB")
    assert [text.get_text() for text in ax.texts] == ["collapsed: no selection"]
    figure = compare(IMAGE, [panel(attribution=0.2 * np.eye(4), collapsed=False)])
    assert all(not ax.patches for ax in figure.axes)


def test_limits_say_what_display_has_changed():
    fine = np.random.default_rng(0).normal(size=(64, 64))
    figure = compare(IMAGE, [panel(attribution=fine, unit="logits")])
    limits = said(figure)[1]
    top = Scale.of(pooled(fine)[0]).high
    expected = f"−{top:.2g} to {top:.2g} · clipped at 99.5 %\nmeans of 2 × 2"
    assert limits == expected


def test_texts_alone_wrap_with_one_bar_per_unit():
    long = [f"word{i}" for i in range(40)]
    passages = [
        Passage("A", WORDS, np.array([0.0, 1.0, 2.0])),
        Passage("B", WORDS, np.array([-0.5, 0.0, 0.25]), "cosine"),
        Passage("C", long, np.arange(40.0)),
    ]
    figure = texts(passages, title="two texts (0.71)")
    bits, first, third, cosine, second = figure.axes
    assert [ticks(bits), ticks(cosine)] == [["0", "most"], ["−0.5", "0.5"]]
    assert [text.get_text() for text in first.texts] == ["a", "0.0", "red", "1.0", "circle", "2.0"]
    assert [text.get_text() for text in second.texts][1::2] == ["−0.50", "0.00", "0.25"]
    lines = {text.get_position()[1] for text in third.texts[::2]}
    assert lines == {0.5 + 1.75 * line for line in range(5)}  # 9 words of 6 letters to a line
    assert third.get_position().y0 > second.get_position().y1


def test_texts_need_a_passage():
    with pytest.raises(ValueError, match="at least one passage"):
        texts([])


def test_grid_puts_rows_below_each_other():
    figure = grid([IMAGE, IMAGE], [[panel()], [panel(), panel()]], titles=["one", "two"])
    one, two = (ax for ax in figure.axes if ax.get_title() in ("one", "two"))
    assert one.get_position().x0 == two.get_position().x0
    assert one.get_position().y0 > two.get_position().y1
    assert len(figure.axes) == 2 + 3 + 1  # pictures, maps, one bar


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
        # Two cells of 2.2 and three gaps of 0.25 inches at 50 dots.
        assert picture.size[0] == pytest.approx(50 * (2 * 2.2 + 3 * 0.25), abs=1)
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
