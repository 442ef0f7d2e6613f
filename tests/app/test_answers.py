"""Models that answer, in the page: a picture and a question in, the answer explained."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from captum_ib.app.asking import Question, answer
from captum_ib.app.cards import answer_html
from captum_ib.app.choices import caption_info, layers_info
from captum_ib.app.offers import make_offer
from captum_ib.loading import load
from captum_ib.methods import get
from tests.loading.generator_folders import write

QUESTION = "what colour is the circle ?"


@pytest.fixture(scope="module")
def offer(tmp_path_factory):
    folder = write("LLaVA", tmp_path_factory.mktemp("answers") / "llava")
    return make_offer(load(f"hf:{folder}"), torch.device("cpu"))


def asked(offer, **given):
    picture = Image.radial_gradient("L").resize((60, 40)).convert("RGB")
    question = Question(picture, "x.png", methods=("iba", "nib"), **{"steps": 2, **given})
    return list(answer(offer, question))[-1]


def test_it_is_offered_with_a_question(offer):
    assert offer.answers and offer.pair and not offer.texts and offer.asked_label == "Question"
    assert set(offer.defaults) == {"iba", "coiba", "nib", "layergradcam"}
    assert offer.first_methods == ["iba", "nib"]
    assert {one.question for one in offer.examples} == {"What is in this picture?"}
    assert caption_info(offer) == "About the picture; the model's own answer is explained."
    assert "tower" not in layers_info(offer, [get("iba")])
    assert all("language_model.layers" in name for name in offer.layers)


def test_a_question_is_answered_and_explained(offer):
    done = asked(offer, asked=QUESTION)
    iba, nib = done.results
    assert [one.shape[0] for one in iba.maps[1:]] == [len(w.tokens) for w in done.subject.words]
    html = answer_html(done)
    assert QUESTION in html and "with a grey picture" in html
    assert f"probability {100 * done.subject.score:.1f} %" in html
    assert " nats" in html and nib.row.name == "nib"


def test_without_a_question_there_is_a_word(offer):
    with pytest.raises(ValueError, match="the question is empty: .* answers one about a picture"):
        asked(offer, asked=" ")
