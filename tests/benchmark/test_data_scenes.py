"""Generated scenes as samples: scene i is the same whatever else is asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captum_ib import load, zoo
from captum_ib.benchmark import DataConfig, load_config, open_data
from tests.benchmark.data_models import model

LABELS = zoo.scenes.NAMED_SHAPES


def test_labelled_scenes_for_a_classifier():
    data = open_data(DataConfig("scenes", None, {"seed": 7}), model(labels=LABELS))
    scenes = zoo.scenes.labelled(3, seed=7, size=(32, 48))
    sample = data.read(2)
    assert (sample.id, sample.label, sample.caption) == ("scene-7-2", int(scenes.labels[2]), None)
    assert sample.image.size == (48, 32)
    pixels = np.asarray(sample.image).transpose(2, 0, 1) / 255
    assert np.abs(pixels - scenes.images[2].numpy()).max() <= 0.5 / 255 + 1e-6
    assert np.array_equal(sample.mask, scenes.mask[2].numpy())
    assert sample.words is None


def test_scenes_of_relations_for_a_classifier_of_directions():
    directions = model(labels=zoo.relations.DIRECTIONS)
    scenes = zoo.relations.labelled(3, seed=7, size=(32, 48))
    for options, index in (({"seed": 7}, 2), ({"seed": 7, "objects": (3, 7)}, 2)):
        sample = open_data(DataConfig("scenes", None, options), directions).read(index)
        assert (sample.id, sample.label) == ("scene-7-2", int(scenes.labels[2]))
        assert np.array_equal(sample.mask, (scenes.ring | scenes.star)[2].numpy())
    with pytest.raises(ValueError, match=r"objects must be \(fewest, most\) within 2..7"):
        open_data(DataConfig("scenes", None, {"objects": (1, 4)}), directions)


def test_the_comparison_of_methods_on_relations_is_a_file_that_loads():
    file = Path(__file__).parents[2] / "benchmarks" / "relations.yaml"
    (run,) = load_config(file)
    assert (run.title, run.model, run.samples) == ("vit-relations", "zoo:vit-relations", 204)
    assert len(run.methods) == 12


def test_captioned_scenes_for_two_towers():
    data = open_data(DataConfig("scenes"), load("clip-scenes"))
    scenes = zoo.scenes.captioned(2, seed=1_000_003, size=56)
    sample = data.read(1)
    assert sample.id == "scene-1000003-1"
    assert sample.caption == scenes.captions[1]
    words = scenes.captions[1].split()
    assert sample.words == tuple(w for w, c in zip(words, scenes.content[1], strict=True) if c)
    assert np.array_equal(sample.mask, scenes.mask[1].numpy())
    assert sample.label is None


def test_options():
    one = open_data(DataConfig("scenes", None, {"objects": (1, 1)}), model(labels=LABELS))
    assert all(one.read(index).mask.any() for index in range(3))
    with pytest.raises(ValueError, match=r"objects must be \(fewest, most\) within 1..4"):
        open_data(DataConfig("scenes", None, {"objects": (3, 9)}), model(labels=LABELS))
    with pytest.raises(ValueError, match="seed must be in"):
        open_data(DataConfig("scenes", None, {"seed": -1}), model(labels=LABELS))


def test_a_classifier_of_something_else():
    with pytest.raises(ValueError, match="circle, .* or right, .* not those of a model; use"):
        open_data(DataConfig("scenes"), model())
    assert len(open_data(DataConfig("scenes"), model(labels=None))) == 10**9


@pytest.mark.parametrize("index", [-1, 10**9])
def test_scenes_that_are_not_there(index):
    with pytest.raises(IndexError, match=f"sample {index} of 1000000000"):
        open_data(DataConfig("scenes"), model(labels=LABELS)).read(index)
