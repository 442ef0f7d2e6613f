"""The figure of words and their regions."""

from __future__ import annotations

import numpy as np
import pytest

from captum_ib.visualization import word_regions

IMAGE = np.ones((3, 16, 16))
WORDS = ["<bos>", "red", "ring", "<eos>"]


def test_a_map_for_all_words_and_one_for_each():
    maps = np.arange(5 * 9, dtype=float).reshape(5, 3, 3)
    figure = word_regions(IMAGE, maps, WORDS, skip=["<bos>", "<eos>"], title="scene")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["scene", "all words", "red", "ring"]
    written = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert "red" in written and "ring" in written and "<bos>" not in written


def test_what_can_not_be_drawn():
    with pytest.raises(ValueError, match=r"must have shape \(T, h, w\)"):
        word_regions(IMAGE, np.zeros((3, 3)), WORDS)
    with pytest.raises(ValueError, match="no word is left"):
        word_regions(IMAGE, np.zeros((4, 3, 3)), WORDS, skip=WORDS)
