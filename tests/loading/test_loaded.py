"""Preprocessing, its way back, and classes by label or index."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_ib.loading.loaded import LoadedModel, Resize, triple

MEAN, STD = (0.1, 0.2, 0.3), (0.5, 0.25, 0.125)


def model(labels=None) -> LoadedModel:
    preprocess = Resize((4, 4), MEAN, STD)
    return LoadedModel(
        "test", nn.Identity(), "classifier", preprocess, (4, 4), MEAN, STD, labels=labels
    )


def test_resize_normalises_and_picture_undoes_it():
    picture = Image.new("RGB", (9, 5), (51, 102, 255))
    pixels = model().preprocess(picture)
    expected = torch.tensor([(0.2 - 0.1) / 0.5, (0.4 - 0.2) / 0.25, (1.0 - 0.3) / 0.125])
    assert torch.allclose(pixels, expected.view(3, 1, 1).expand(3, 4, 4), atol=1e-6)
    color = torch.tensor([0.2, 0.4, 1.0]).view(3, 1, 1)
    assert torch.allclose(model().picture(pixels[None])[0], color.expand(3, 4, 4), atol=1e-6)


def test_resize_averages_over_what_it_drops():
    stripes = np.zeros((8, 8, 3), dtype=np.uint8)
    stripes[:, ::2] = 255  # without antialiasing, every second column would vanish
    pixels = Resize((2, 2), (0, 0, 0), (1, 1, 1))(Image.fromarray(stripes))
    assert pixels.mean() == pytest.approx(0.5, abs=1e-6)
    assert pixels.std() < 0.1


def test_resize_leaves_the_right_size_alone():
    array = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    pixels = Resize((4, 4), (0, 0, 0), (1, 1, 1))(Image.fromarray(array))
    assert torch.equal(pixels, torch.from_numpy(array).permute(2, 0, 1) / 255)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    assert model().preprocess(Image.new("RGB", (4, 4)).convert(mode)).shape == (3, 4, 4)


@pytest.mark.parametrize(
    ("target", "index"), [(1, 1), ("1", 1), ("Cat", 0), ("hound", 1), (" dog, hound ", 1)]
)
def test_class_by_index_or_label(target, index):
    assert model(["cat", "dog, hound", "bird"]).class_index(target) == index


@pytest.mark.parametrize(
    ("labels", "target", "message"),
    [
        (["cat", "dog"], 2, "target 2 is out of range: it must be at least 0 and at most 1"),
        (["cat", "dog"], "-1", "target -1 is out of range"),
        (None, -1, "target -1 is out of range: it must be at least 0$"),
        (["cat", "dog"], "catt", "'catt' is none of the 2 labels; nearest: cat"),
        (["cat", "dog"], "zzz", "they start with cat, dog"),
        (["crane", "crane"], "crane", r"'crane' names 2 classes: crane \(0\); crane \(1\); pass"),
        (None, "cat", "test does not name its classes; pass the index"),
    ],
)
def test_no_such_class(labels, target, message):
    with pytest.raises(ValueError, match=message):
        model(labels).class_index(target)


TABBY = ["tabby, tabby cat", "tiger cat", "catamaran", "goldfish"]


@pytest.mark.parametrize(
    ("labels", "target", "index"),
    [
        (TABBY, "tabby cat", 0),
        (TABBY, "tabby", 0),
        (TABBY, "tiger", 1),  # a whole word of one label
        (TABBY, "gold", 3),  # letters of one label
        (TABBY, "catam", 2),
    ],
)
def test_a_class_by_a_part_of_its_label(labels, target, index):
    assert model(labels).class_index(target, loosely=True) == index


def test_a_part_of_several_labels_lists_them():
    listed = r"'cat' names 2 classes: tabby, tabby cat \(0\); tiger cat \(1\); pass the whole"
    with pytest.raises(ValueError, match=listed):  # whole words come before letters: no catamaran
        model(TABBY).class_index("cat", loosely=True)
    with pytest.raises(ValueError, match="'goldfisch' is none of the 4 labels; nearest: goldfish"):
        model(TABBY).class_index("goldfisch", loosely=True)
    with pytest.raises(ValueError, match="'gold' is none of the 4 labels"):
        model(TABBY).class_index("gold")  # a table of data means what it says
    many = [f"cat {i}" for i in range(20)]
    with pytest.raises(ValueError, match=r"names 20 classes: .*cat 11 \(11\); and 8 more; pass"):
        model(many).class_index("cat", loosely=True)


def test_triple():
    assert triple([1, 2, 3], "mean") == (1.0, 2.0, 3.0)
    with pytest.raises(
        ValueError, match=r"mean must hold one number per colour channel, given \[1"
    ):
        triple([1.0], "mean")
