"""The stand-in for MS-CXR: findings lie in their boxes and are said in their phrases."""

from __future__ import annotations

import json

import numpy as np
import pytest

from captum_ib.zoo.radiographs import FINDINGS, radiographs, write_radiographs


def test_findings_lie_where_boxes_and_phrases_say():
    found = radiographs(40, seed=2, size=96)
    assert {one.finding for one in found} == set(FINDINGS)
    assert {len(one.boxes) for one in found} == {1, 2}
    for one in found:
        assert one.image.shape == (96, 96) and one.image.dtype == np.uint8
        assert one.phrase.startswith(f"{one.finding} in the ")
        assert ("both" in one.phrase) == (len(one.boxes) == 2)
        for left, top, width, height in one.boxes:
            assert left >= 0 and left + width <= 96 and top >= 0 and top + height <= 96
            side = "right" if left + width / 2 < 48 else "left"
            assert "both" in one.phrase or f"the {side} lung" in one.phrase


def test_a_finding_is_brighter_than_the_other_lung():
    for one in radiographs(20, seed=5, size=128):
        if len(one.boxes) == 1 and one.finding != "nodule":
            left, top, width, height = one.boxes[0]
            here = one.image[top : top + height, left : left + width].mean()
            mirrored = 128 - left - width
            there = one.image[top : top + height, mirrored : mirrored + width].mean()
            assert here > there + 10


def test_a_picture_is_the_same_in_a_longer_list_and_another_with_another_seed():
    short, long = radiographs(2, seed=1, size=64), radiographs(5, seed=1, size=64)
    assert np.array_equal(short[1].image, long[1].image) and short[1].phrase == long[1].phrase
    assert not np.array_equal(short[0].image, radiographs(1, seed=3, size=64)[0].image)


def test_it_is_read_as_ms_cxr_is(tmp_path):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from captum_ib import load
    from captum_ib.benchmark.config import DataConfig
    from captum_ib.benchmark.data import open_data

    file = write_radiographs(tmp_path, 6, seed=2, size=64)
    options = {"annotations": str(file), "shuffle": None}
    data = open_data(DataConfig("coco", str(tmp_path), options), load("clip-scenes"))
    made = radiographs(6, seed=2, size=64)
    assert len(data) == 6 and len(json.loads(file.read_text())["annotations"]) >= 6
    for index, one in enumerate(made):
        sample = data.read(index)
        assert sample.caption == one.phrase and sample.id == f"{index}/{one.finding}/{one.phrase}"
        assert np.array_equal(np.asarray(sample.image)[..., 0], one.image)
        marked = np.zeros((64, 64), dtype=bool)
        for left, top, width, height in one.boxes:
            marked[top : top + height, left : left + width] = True
        assert np.array_equal(sample.mask, marked)


def test_too_few_or_too_small():
    with pytest.raises(ValueError, match="at least 1 picture of 32 pixels, given 0 of 224"):
        radiographs(0)
