"""Models of texts in the page: two to compare, or one to classify; no picture."""

from __future__ import annotations

import re

import pytest
import torch

import captum_ib
from captum_ib.app import cards
from captum_ib.app.asking import Question, answer
from captum_ib.app.offers import make_offer
from captum_ib.app.results import Results
from captum_ib.loading.load import load
from tests.loading import test_sentence, test_texts

made = test_sentence.made  # the folder of a BERT with random weights and mean pooling
FIRST, SECOND = "a cat sleeps", "the dog barks"


@pytest.fixture(scope="module")
def offer(made):
    return make_offer(load(f"hf:{made}"), torch.device("cpu"))


def ask(offer, **changes):
    given = {"asked": SECOND, "methods": ("com2ib",), "first": FIRST, **changes}
    return list(answer(offer, Question(None, "texts", **given)))[-1]


def test_a_sentence_encoder_is_offered_with_sentences(offer):
    assert offer.texts and offer.pair and offer.first_methods == ["com2ib", "nib"]
    assert [one.picture for one in offer.examples] == [None] * 6
    assert offer.examples[1].first == "The train was late because of the snow."


def test_the_maps_are_those_of_captum_ib_explain(offer):
    (found,) = ask(offer).results
    expected = captum_ib.explain(offer.loaded, (FIRST, SECOND))
    for one, other in zip(found.maps, expected.maps, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


def test_both_texts_are_shown_with_their_words(offer):
    html = cards.answer_html(ask(offer, methods=("nib",)))
    assert re.findall(r"<h3>(.*?)</h3>", html) == ["What the model reads", "NIB"]
    assert "“a cat sleeps”" in html and "“the dog barks”" in html and "<img" not in html
    texts = re.findall(r'<p class="ib-words">(.*?)</p>', html)
    shown = [re.findall(r">([^<]+)</span>", text) for text in texts]
    assert shown == [FIRST.split(), SECOND.split()]


def test_the_files_are_written(offer, tmp_path):
    _, files = Results(tmp_path).add(ask(offer, methods=("nib",)))
    assert files == ["texts-nib.json", "texts-nib.npz", "texts-nib.png"]


@pytest.mark.parametrize("changes", [{"first": " "}, {"asked": ""}])
def test_an_empty_text_is_said(offer, changes):
    with pytest.raises(ValueError, match="a text is empty: .* compares two texts"):
        ask(offer, **changes)


@pytest.fixture(scope="module")
def feelings(tmp_path_factory):
    """A classifier of texts into three classes."""
    folder = tmp_path_factory.mktemp("feelings")
    test_texts.write(folder)
    return make_offer(load(str(folder)), torch.device("cpu"))


def test_a_classifier_of_texts_is_offered_with_sentences(feelings):
    assert feelings.texts and not feelings.pair
    assert feelings.first_methods == ["coiba", "nib"]
    assert {"ig", "inputxgradient", "gradcam"}.isdisjoint(feelings.defaults)
    assert feelings.examples[0].question is None
    assert feelings.examples[0].first == "A cat is sleeping on the sofa."


def test_a_text_is_classified_and_explained_as_elsewhere(feelings, tmp_path):
    asked = {"first": test_texts.TEXT, "asked": "positive", "methods": ("coiba",)}
    found = ask(feelings, **asked)
    expected = captum_ib.explain(feelings.loaded, test_texts.TEXT, target="positive")
    torch.testing.assert_close(found.results[0].maps[0], expected.maps[0], rtol=0, atol=1e-5)
    html = cards.answer_html(found)
    assert f"“{test_texts.TEXT}”" in html and "positive" in html and "probability" in html
    (words,) = re.findall(r'<p class="ib-words">(.*?)</p>', html)
    assert re.findall(r">([^<]+)</span>", words) == test_texts.TEXT.split()
    _, files = Results(tmp_path).add(found)
    assert files == ["texts-coiba.json", "texts-coiba.npz", "texts-coiba.png"]


def test_an_empty_text_to_classify_is_said(feelings):
    with pytest.raises(ValueError, match="the text is empty: .* classifies texts"):
        ask(feelings, first=" ", asked="", methods=("nib",))


def test_a_picture_that_is_missing_is_said(pair):
    with pytest.raises(ValueError, match="no picture is chosen"):
        list(answer(pair, Question(None, "x.png", "a red circle", ("nib",))))
