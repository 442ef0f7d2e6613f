"""The figure of cross-attention."""

import numpy as np
import pytest
import torch

from captum_ib.visualization import attention

IMAGE = np.full((3, 8, 8), 0.5)
WORDS = ["<bos>", "a", "red", "ring", "and", "star", "<eos>"]


def test_one_panel_per_word_with_its_largest_weight():
    weights = torch.arange(9 * 4, dtype=torch.float32).reshape(9, 2, 2)
    figure = attention(IMAGE, weights, WORDS, skip=["<bos>", "<eos>"], title="scene")
    titles = [axis.get_title() for axis in figure.axes if axis.get_title()]
    assert titles == ["scene", "a", "red", "ring", "and", "star"]
    said = [text.get_text() for text in figure.texts if " to " in text.get_text()]
    assert said == [f"{low} to {low + 3}" for low in (4, 8, 12, 16, 20)]


@pytest.mark.parametrize(
    ("weights", "words", "message"),
    [
        (np.ones((2, 4)), ["a"], r"must have shape \(T, h, w\) with T ≥ 1 words"),
        (np.ones((2, 3, 3)), ["a", "b", "c"], r"T ≥ 3 words, got \(2, 3, 3\)"),
        (np.ones((1, 3, 3)), ["<bos>"], "no word is left to draw"),
        (np.full((1, 3, 3), np.nan), ["a"], "NaN"),
        (-np.ones((1, 3, 3)), ["a"], "negative values"),
    ],
)
def test_arguments_are_checked(weights, words, message):
    with pytest.raises(ValueError, match=message):
        attention(IMAGE, weights, words, skip=["<bos>"])
