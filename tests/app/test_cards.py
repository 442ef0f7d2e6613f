"""Answers as HTML: overlays, bars with limits and unit, words with their colours, all escaped."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ib.app import cards, notes
from captum_ib.app.asking import Question, answer
from captum_ib.visualization import Scale, amount, overlay

HOSTILE = '<img src=x onerror="alert(1)">${1+1}&'


@pytest.fixture(scope="module")
def done(pair):
    example = pair.examples[0]
    names = ("m2ib", "nib")
    *_, last = answer(pair, Question(example.picture, "x.png", example.question, names, steps=2))
    return last


def with_image(result, image):
    """The result with another map of its picture."""
    return replace(result, maps=(image, *result.maps[1:]))


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_one_card_per_method_and_one_of_the_picture(done):
    html = cards.answer_html(done, "token", ["x-compare.png", "x-m2ib.npz"])
    titles = re.findall(r"<h3>(.*?)</h3>", html)
    assert titles == ["What the model sees", "M2IB", "NIB"]
    assert html.count('class="ib-words"') == 2 and html.count('class="ib-bar"') == 4
    assert 'href="results/token/x-compare.png" download="x-compare.png">Figure (PNG)' in html
    assert 'href="results/token/all.zip"' in html and 'href="results/token/x-m2ib.npz"' in html


def test_the_overlay_is_that_of_the_library(done):
    seen, m2ib, _ = pictures(cards.answer_html(done))
    assert seen.shape == m2ib.shape == (448, 448, 3)
    pixels = done.subject.picture.numpy().transpose(1, 2, 0).repeat(8, 0).repeat(8, 1)
    scale = Scale.of(done.results[0].image, False, unit="bits")
    expected = overlay(pixels, done.results[0].image, scale=scale)
    assert np.abs(m2ib / 255 - expected).mean() < 0.02  # what JPEG leaves out


def test_bars_state_limits_and_unit(done):
    html = cards.answer_html(done)
    for result in done.results:
        unit = {"m2ib": "bits", "nib": "cosine"}[result.row.name]
        scale = Scale.of(result.image, result.row.signed, unit=unit)
        middle = amount((scale.low + scale.high) / 2, unit)
        low, high = amount(scale.low), amount(scale.high)
        assert f"<span>{low}</span><span>{middle}</span><span>{high}</span>" in html


def test_each_word_carries_its_value_and_special_tokens_stay_out(done):
    html = cards.answer_html(replace(done, results=done.results[:1]))
    words = re.findall(r'title="([^"]+)">([^<]+)</span>', html)
    assert [word for _, word in words] == done.subject.text.split()
    values = done.results[0].texts[-1][1:-1]
    assert [value for value, _ in words] == [amount(float(v), "bits", 3) for v in values]


def test_of_many_layers_the_first_and_the_last_are_named(done):
    many = replace(done.results[0], layers=("a.0", "a.1", "a.2", "b.0", "b.1"))
    html = cards.answer_html(replace(done, results=(many,)))
    assert re.search(r"bits \(.* s, at a\.0 … b\.1 \(5 layers\)</div>", html)
    plain = cards.answer_html(done).replace("<wbr>", "")
    assert f" s, at {', '.join(done.results[0].layers)}</div>" in plain


def test_methods_that_are_not_done_wait(done):
    html = cards.answer_html(replace(done, results=done.results[:1], waiting=("nib",)))
    assert "waiting …" in html and "ib-downloads" not in html


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.attributes: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.attributes += [name for name, _ in attrs]


def test_words_and_names_from_outside_are_data(done):
    (words,) = done.subject.words
    words = replace(words, text=HOSTILE, tokens=(HOSTILE,) * len(words.tokens))
    subject = replace(done.subject, words=(words,))
    html = cards.answer_html(replace(done, subject=subject), "t", [f"{HOSTILE}-compare.png"])
    html += notes.preview_html(Image.new("RGB", (9, 9)), HOSTILE)
    html += notes.error_html(ValueError(HOSTILE)) + notes.note_html(HOSTILE)
    tags = _Tags()
    tags.feed(html)
    assert "onerror" not in tags.attributes and HOSTILE not in html


def test_errors_are_one_sentence():
    assert notes.error_html(ValueError("one\n two")).endswith("one two</div>")
    assert notes.error_html(AssertionError()).endswith("AssertionError</div>")


def test_a_map_of_zeros_is_drawn(done):
    empty = with_image(done.results[0], torch.zeros(1, 1, 7, 7))
    html = cards.answer_html(replace(done, results=(empty,)))
    assert "<span>0</span><span>0.5 bits</span><span>1</span>" in html
    assert '<div class="ib-note" role="note">0 everywhere</div>' in html


def test_a_collapsed_map_is_said_in_words(done):
    lost = with_image(done.results[0], torch.eye(7)[None, None] / 4)
    html = cards.answer_html(replace(done, results=(lost,)))
    assert '<div class="ib-note" role="note">collapsed: at most 0.25 bits</div>' in html
