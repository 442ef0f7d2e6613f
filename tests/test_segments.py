"""Sums of maps within segments: exact for any two sizes, as Captum numbers segments."""

from __future__ import annotations

import pytest
import torch
from captum.attr import ImageMaskInput
from PIL import Image

import captum_ib
from captum_ib import per_segment

MAP = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


@pytest.mark.parametrize("size", [(2, 2), (4, 6), (1, 1), (3, 5), (7, 9), (224, 160)])
def test_nothing_is_lost_whatever_the_sizes(size):
    torch.manual_seed(0)
    maps, mask = torch.randn(3, 1, 5, 4), torch.randint(0, 6, size)
    found = per_segment(maps, mask)
    assert found.shape == (3, len(mask.unique()))
    torch.testing.assert_close(found.sum(dim=1), maps.flatten(1).sum(dim=1).double())


def test_a_cell_that_a_border_cuts_is_shared_by_area():
    mask = torch.zeros(2, 3, dtype=torch.long)
    mask[:, 0] = 1  # a third of the width: two thirds of the first column's cells
    expected = torch.tensor([[2 + 4 + (1 + 3) / 3, (1 + 3) * 2 / 3]], dtype=torch.float64)
    torch.testing.assert_close(per_segment(MAP, mask), expected)


def test_pixels_finer_or_coarser_than_the_map_agree():
    torch.manual_seed(0)
    maps, coarse = torch.rand(2, 1, 8, 8), torch.arange(16).view(4, 4)
    fine = coarse.repeat_interleave(10, 0).repeat_interleave(10, 1)
    expected = torch.nn.functional.avg_pool2d(maps.double(), 2).flatten(1) * 4
    torch.testing.assert_close(per_segment(maps, coarse), expected)
    torch.testing.assert_close(per_segment(maps, fine), expected)


def test_segments_are_numbered_as_captum_does():
    mask = torch.tensor([[9, 9], [2, 5]])
    given = ImageMaskInput(Image.new("RGB", (2, 2)), mask=mask)
    expected = [float(MAP[0, 0][one].sum()) for one in given.get_mask_list()]
    assert per_segment(MAP, mask)[0].tolist() == expected == [3.0, 4.0, 3.0]
    assert per_segment(MAP, given.get_mask_list())[0].tolist() == expected
    assert per_segment(MAP, mask[None])[0].tolist() == expected  # as a feature_mask


def test_masks_may_overlap():
    top = torch.tensor([[True, True], [False, False]])
    assert per_segment(MAP, [top, torch.ones(2, 2, dtype=torch.bool)])[0].tolist() == [3.0, 10.0]


def test_words_of_texts():
    tokens, words = torch.tensor([[1.0, 2.0, 4.0], [0.0, 1.0, 1.0]]), torch.tensor([0, 3, 3])
    assert per_segment(tokens, words).tolist() == [[1.0, 6.0], [0.0, 2.0]]
    assert per_segment(tokens[0], words).tolist() == [[1.0, 6.0]]


def test_an_explanation_knows_its_segments():
    scene = captum_ib.zoo.scenes.labelled(1, seed=1)
    found = captum_ib.explain("vit-scenes", (scene.images[0] * 255).byte(), steps=2)
    halves = torch.tensor([[0, 1]])
    torch.testing.assert_close(found.per_segment(halves), per_segment(found.image, halves)[0])
    assert float(found.per_segment(halves).sum()) == pytest.approx(found.bits, rel=1e-6)


@pytest.mark.parametrize(
    ("maps", "mask", "error", "message"),
    [
        (MAP.long(), torch.zeros(2, 2).long(), TypeError, "a tensor of floats, given torch.int64"),
        (MAP, torch.zeros(2, 2), TypeError, "numbers of segments, ints, given torch.float32"),
        (MAP, "left", TypeError, "numbers of segments, ints, given str"),
        (MAP, [1], TypeError, "or a list of tensors with one mask each"),
        (MAP, [torch.ones(2, 2), torch.ones(3, 2)], ValueError, r"all be \(H, W\), or \(T,\)"),
        (MAP, torch.zeros(2, 2, 2, 2).long(), ValueError, r"shape \(H, W\), or \(T,\) for texts"),
        (MAP, torch.zeros(4).long(), ValueError, r"expected \(N, 4\); a picture's mask has shape"),
        (torch.ones(2, 3, 4), torch.ones(2, 2).long(), ValueError, "is none of pictures"),
        (torch.ones(2, 3), torch.ones(4).long(), ValueError, "mask of 4 tokens does not fit"),
    ],
)
def test_what_does_not_fit_is_said(maps, mask, error, message):
    with pytest.raises(error, match=message):
        per_segment(maps, mask)


def test_a_text_has_no_picture(tmp_path):
    subject = captum_ib.Explanation.__new__(captum_ib.Explanation)
    subject.image = None
    with pytest.raises(ValueError, match="there is no picture here"):
        subject.per_segment(torch.zeros(2, 2).long())
