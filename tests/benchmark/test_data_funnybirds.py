"""FunnyBirds as samples."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from captum_ib.benchmark import DataConfig, UnreadableSampleError, open_data
from captum_ib.metrics.funnybirds import PARTS, FunnyBirds
from tests.benchmark.data_models import model

TEN = [f"bird {number}" for number in range(10)]


def birds(root, loaded=None, **options):
    options = {"shuffle": None, **options}
    return open_data(DataConfig("funnybirds", str(root), options), loaded or model(labels=TEN))


@pytest.fixture
def small(tmp_path):
    """Two classes, one bird of each, 4 x 5 pixels; of the second bird, a wing and the tail show."""
    parts = dict.fromkeys(PARTS, 0)
    classes = [{"class_idx": 1, "parts": {**parts, "wing": 1}}, {"class_idx": 0, "parts": parts}]
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    listed = [{"class_idx": target, "bg_objects": ""} for target in (0, 1)]
    (tmp_path / "dataset_test.json").write_text(json.dumps(listed))
    for number, target in enumerate((0, 1)):
        for kind in ("test", "test_part_map"):
            (tmp_path / kind / str(target)).mkdir(parents=True)
        pixels = np.full((4, 5, 4), 100 + number, dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "test" / str(target) / f"{number:06d}.png")
        pixels[:] = 0
        if number:
            pixels[0, 0, :3], pixels[1, 2, :3], pixels[3, 3, :3] = (
                (0, 255, 2),
                (0, 0, 255),
                (170,) * 3,
            )
        Image.fromarray(pixels).save(tmp_path / "test_part_map" / str(target) / f"{number:06d}.png")
    return tmp_path


def test_samples(small):
    data = birds(small, model(labels=None))
    assert [data.id(index) for index in range(2)] == ["test/000000", "test/000001"]
    sample = data.read(1)
    assert (sample.label, sample.caption) == (1, None)
    assert np.asarray(sample.image).tolist() == np.full((4, 5, 3), 101).tolist()
    assert np.argwhere(sample.mask).tolist() == [[0, 0], [1, 2]]  # neither body nor ground
    assert not data.read(0).mask.any()


def test_birds_that_can_not_be_read(small):
    data = birds(small, model(labels=None))
    file = small / "test_part_map" / "1" / "000001.png"
    Image.fromarray(np.zeros((5, 4, 3), dtype=np.uint8)).save(file)
    with pytest.raises(UnreadableSampleError, match="the part map is of another size"):
        data.read(1)
    file.unlink()
    with pytest.raises(UnreadableSampleError, match="^test/000001: image .* is missing"):
        data.read(1)
    with pytest.raises(IndexError, match="sample 2 of 2"):
        data.read(2)


def test_data_that_does_not_fit(small):
    with pytest.raises(ValueError, match="has 2 classes, a model has 10"):
        birds(small)
    with pytest.raises(
        ValueError, match="FunnyBirds needs a classifier; a model is a dual encoder"
    ):
        birds(small, model("dual"))
    with pytest.raises(
        FileNotFoundError, match="holds no FunnyBirds: dataset_train.json is missing"
    ):
        birds(small, split="train")
    with pytest.raises(FileNotFoundError, match="holds no FunnyBirds: classes.json is missing"):
        birds(small / "test")


def test_the_real_thing(funnybirds):
    data, reference = birds(funnybirds), FunnyBirds(funnybirds)
    assert len(data) == len(reference)
    sample, bird = data.read(12), reference.birds[12]
    assert (sample.id, sample.label) == ("test/000012", bird.target)
    pixels = np.asarray(sample.image).transpose(2, 0, 1) / 255
    assert np.allclose(pixels, reference.image(bird).numpy())
    # What changes when the five parts are taken away is the mask and the shadows that they cast:
    # measured over the 40 birds, 0.98 of the mask changes and 0.82 of what changes is mask.
    changed = np.abs(pixels - reference.with_parts(bird, ()).numpy()).max(axis=0) > 0.1
    assert (changed & sample.mask).sum() > 0.9 * sample.mask.sum()
    assert (changed & sample.mask).sum() > 0.8 * changed.sum()
    train = birds(funnybirds, split="train")
    assert (len(train), train.read(0).mask) == (200, None)


def test_a_fair_draw(funnybirds):
    data = birds(funnybirds, shuffle=0)
    assert len({data.read(index).label for index in range(20)}) >= 7
