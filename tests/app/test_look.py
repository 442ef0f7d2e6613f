"""Another look of the maps without running again, and the regions that words light."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch

from captum_ib.app import cards
from captum_ib.app.asking import Question, answer
from captum_ib.app.page import Page, Source
from captum_ib.app.results import Results
from captum_ib.app.running import Running
from captum_ib.app.uploads import Limits
from captum_ib.app.views import Views
from captum_ib.app.visitors import Visitors
from captum_ib.visualization import Style

LOOK = (0.5, "magma", True, 3, False)
OTHERWISE = Style(opacity=0.5, cmap="magma", grey=True, contours=3)


@pytest.fixture
def page(offers, tmp_path):
    for name in ("results", "uploads"):
        (tmp_path / name).mkdir()
    results, visitors = Results(tmp_path / "results"), Visitors(tmp_path / "uploads")
    return Page(offers, Limits(), results, visitors, Running())


def explain(page, session="somebody"):
    given = (Source(example=0), "a red circle", None, ["nib"], [], None, 2, 0)
    *_, (state, html) = page.explain(session, "zoo:clip-scenes", *given)
    assert "done: NIB" in state
    return html


def maps(html: str) -> list[str]:
    return re.findall(r'<div class="ib-seen">.*?</div>', html)


def test_the_maps_look_otherwise_and_nothing_runs(page, monkeypatch):
    before = explain(page)
    monkeypatch.setattr("captum_ib.app.page.answer", None)
    (state, first), (_, last) = page.restyle("somebody", *LOOK)
    view = page.views.of("somebody")
    assert state is None and maps(first) == maps(last) != maps(before)
    assert last == cards.answer_html(view.answer, view.token, view.files, OTHERWISE)


def test_the_files_follow_and_the_old_ones_go(page):
    explain(page)
    old = page.views.of("somebody")
    name = next(name for name in old.files if name.endswith("nib.png"))
    before = page.results.find(old.token, name).read_bytes()
    list(page.restyle("somebody", *LOOK))
    new = page.views.of("somebody")
    assert page.results.find(old.token, name) is None
    assert page.results.find(new.token, name).read_bytes() != before


def test_the_next_answer_has_the_chosen_look(page):
    assert list(page.restyle("somebody", *LOOK)) == [(None, None)]
    explain(page)
    assert page.views.of("somebody").style == OTHERWISE


def test_another_page_keeps_its_own_look(page):
    html = explain(page)
    list(page.restyle("somebody else", *LOOK))
    assert maps(explain(page)) == maps(html)


@pytest.mark.parametrize(
    ("look", "message"),
    [
        ((2.0, None, None, None, None), "opacity must lie in [0, 1], given 2.0"),
        ((None, "no-such", None, None, None), "matplotlib knows no colour map"),
        ((None, None, None, 1.5, None), "contours must be a whole number, got 1.5"),
    ],
)
def test_a_look_that_does_not_exist(page, look, message):
    ((state, html),) = page.restyle("somebody", *look)
    assert message in state and html is None


def test_views_are_few_and_go_with_their_page():
    views = Views(kept=2)
    for session in "abc":
        views.style(session, OTHERWISE)
    assert [views.of(session).style == OTHERWISE for session in "abc"] == [False, True, True]
    views.forget("c")
    assert views.of("c").style == Style()


@pytest.fixture(scope="module")
def looked(pair):
    example = pair.examples[0]
    asked = Question(example.picture, "x.png", "a red circle", ("cam2ib",), steps=2)
    *_, last = answer(pair, asked)
    return last


def test_attention_is_that_of_the_method_itself(looked):
    (found,) = looked.results
    subject = looked.subject
    maps, (_, read) = found.method.attribute(
        subject.inputs,
        additional_forward_args=subject.masks,
        return_attention=True,
        **found.given,
    )
    assert torch.equal(found.attention, read.over_keys()[0])
    assert torch.equal(found.maps[0], maps[0]) and torch.equal(found.maps[1], maps[1][0])
    assert found.settings["return_attention"] is False  # what was asked, as before
    assert found.attention.shape == (5, 7, 7)


def test_each_word_lights_a_region_of_its_own(looked):
    html = cards.answer_html(looked)
    alts = re.findall(r'class="ib-region ib-r(\d)" alt="([^"]*)"', html)
    assert alts == [
        (str(i), f"where the word “{w}” looks") for i, w in enumerate("a red circle".split())
    ]
    assert re.findall(r'<span class="ib-w(\d)" tabindex="0"[^>]*>(\w+)<', html) == [
        ("0", "a"),
        ("1", "red"),
        ("2", "circle"),
    ]


def test_words_of_other_methods_light_nothing(looked):
    (found,) = looked.results
    html = cards.answer_html(replace(looked, results=(replace(found, attention=None),)))
    assert "ib-region" not in html and "tabindex" not in html
