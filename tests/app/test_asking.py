"""What the page offers and answers is what the command line gives."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import captum_ib
from captum_ib.app.asking import Question, answer
from captum_ib.app.offers import make_offer, make_offers
from captum_ib.app.results import Results
from captum_ib.cli import main
from captum_ib.explaining.real import photographs
from captum_ib.loading.load import load

ZOO_OTHERS = ["zoo:clip-scenes", "zoo:vit-relations"]


def question(offer, **changes) -> Question:
    example = offer.examples[0]
    start = Question(example.picture, "x.png", example.question, tuple(offer.first_methods))
    return replace(start, **{"steps": 2, **changes})


def ask(offer, **changes):
    return list(answer(offer, question(offer, **changes)))


def test_the_models_of_the_zoo_are_offered_after_the_given_ones(vit_folder):
    offers = make_offers([str(vit_folder), "vit-scenes"], torch.device("cpu"))
    assert list(offers) == [str(vit_folder), "zoo:vit-scenes", *ZOO_OTHERS]
    assert offers[str(vit_folder)].examples[0].question is None  # its classes are others
    cat = photographs(["chelsea.png"])[0]
    assert offers[str(vit_folder)].examples[0].picture.tobytes() == cat.tobytes()


def test_only_methods_that_the_model_admits_are_offered(pair, classifier):
    of_pair = {row.name for row in pair.methods}
    of_classifier = {row.name for row in classifier.methods}
    assert {"m2ib", "nib", "cam2ib"} <= of_pair and {"coiba", "iba", "nib", "ig"} <= of_classifier
    assert not {"coiba", "ig"} & of_pair and not {"m2ib", "cam2ib"} & of_classifier
    # Captum's Grad-CAM takes classifiers, but finds no map in a transformer's tokens.
    assert "gradcam" not in of_classifier and "layergradcam" in of_classifier


def test_layers_are_the_blocks_and_the_methods_own(pair, classifier):
    depth = len(classifier.module.blocks)
    assert {f"blocks.{i}" for i in range(depth)} <= set(classifier.layers)
    assert set(classifier.defaults["coiba"]) <= set(classifier.layers)
    assert set(pair.defaults["com2ib"]) <= set(pair.layers) and "input" not in pair.layers
    assert classifier.first_methods == ["coiba", "nib"] and pair.first_methods == ["com2ib", "nib"]


def test_answers_grow_method_by_method(pair):
    answers = ask(pair)
    assert [len(one.results) for one in answers] == [0, 1, 2]
    assert [one.waiting for one in answers] == [("com2ib", "nib"), ("nib",), ()]
    assert answers[-1].subject.text == pair.examples[0].question


@pytest.mark.parametrize("model", ["zoo:clip-scenes", "zoo:vit-scenes"])
def test_the_map_is_that_of_captum_ib_explain(offers, model):
    offer = offers[model]
    method = offer.first_methods[0]
    (found,) = ask(offer, methods=(method,), steps=None)[-1].results
    example = offer.examples[0]
    what = (example.picture, example.question) if offer.pair else example.picture
    target = None if offer.pair else example.question
    expected = captum_ib.explain(offer.loaded, what, target=target)
    assert method == expected.method and found.layers == expected.layers
    for one, other in zip(found.maps, expected.maps, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_examples_are_of_the_models_own_world(offers):
    offer = offers["zoo:vit-relations"]
    example = offer.examples[0]
    assert example.question in offer.loaded.labels
    assert example.picture.size == offer.loaded.image_size[::-1]


def test_whoever_stops_listening_holds_up_nobody(pair):
    listening = answer(pair, question(pair))
    next(listening)
    assert not pair.lock.locked()
    next(listening)
    assert not pair.lock.locked()


def test_files_are_those_of_the_command_line(pair, tmp_path):
    layers = [f"{tower}_model.encoder.layers.1" for tower in ("vision", "text")]
    asked = question(pair, methods=("m2ib", "nib"), layers=tuple(layers), beta=0.3, seed=3)
    *_, done = answer(pair, asked)
    (tmp_path / "home").mkdir()
    results = Results(tmp_path / "home")
    token, files = results.add(done)
    asked.picture.save(tmp_path / "x.png")
    arguments = ["--model", "clip-scenes", "--image", tmp_path / "x.png", "--text", asked.asked]
    arguments += ["--method", "m2ib", "nib", "--layer", *layers]
    arguments += ["--steps", 2, "--beta", 0.3, "--seed", 3, "--out", tmp_path / "out"]
    assert main(["explain", *map(str, arguments)]) == 0
    expected = sorted((tmp_path / "out").iterdir())
    assert files == [file.name for file in expected]
    for file in expected:
        ours = results.find(token, file.name)
        if file.suffix == ".npz":
            with np.load(ours) as one, np.load(file) as other:
                assert set(one) == set(other)
                assert all(np.array_equal(one[name], other[name]) for name in one)
        elif file.suffix == ".json":
            one, other = json.loads(ours.read_text()), json.loads(file.read_text())
            assert one == {**other, "image": "x.png"}
        else:
            assert ours.read_bytes() == file.read_bytes()


def test_the_class_is_the_likeliest_unless_given(classifier):
    likeliest = ask(classifier, asked="", methods=("nib",))[-1].subject
    scores = classifier.module(likeliest.pixel_values)
    assert likeliest.target == int(scores.argmax())
    assert ask(classifier, asked="Star", methods=("nib",))[-1].subject.label == "star"


def test_layers_are_not_for_methods_that_explain_the_input(classifier):
    done = ask(classifier, methods=("nib", "fastig"), layers=("blocks.1",))[-1]
    assert [result.layers for result in done.results] == [("blocks.1",), ("input",)]


MISTAKES = [
    ({"methods": ()}, "no method is chosen"),
    ({"methods": ("coiba",)}, "coiba can't explain an image-text model"),
    ({"asked": " "}, "the caption is empty: zoo:clip-scenes compares a picture with a text"),
    ({"asked": "a red elefant"}, "the word 'elefant' in 'a red elefant' is not in the vocabulary"),
    ({"beta": -1.0}, "β must be a number of at least 0, got -1.0"),
    ({"beta": float("nan")}, "β must be a number of at least 0, got nan"),
    ({"methods": ("nib",), "beta": 1.0}, "beta means nothing to nib"),
    ({"steps": 0}, "steps must lie in 1 to 1000, got 0"),
    ({"steps": 1001}, "steps must lie in 1 to 1000, got 1001"),
    ({"seed": -1}, "the seed must be a whole number of at least 0"),
    ({"layers": ("nowhere", "there")}, "the model has no layer 'nowhere'"),
    (
        {"methods": ("rise",), "steps": None, "layers": ("x",)},
        "rise explains the input",
    ),
]


@pytest.mark.parametrize(("changes", "message"), MISTAKES)
def test_mistakes(pair, changes, message):
    with pytest.raises(ValueError, match=message):
        ask(pair, **changes)
    assert not pair.lock.locked()


def test_a_model_without_any_method_is_refused(monkeypatch):
    monkeypatch.setattr("captum_ib.app.offers.methods.for_kind", lambda *kind, **more: [])
    with pytest.raises(ValueError, match="zoo:vit-scenes: no method admits this model"):
        make_offer(load("vit-scenes"), torch.device("cpu"))
