"""Whose a session and an upload is, and which of them go first when there are too many."""

from __future__ import annotations

import pytest

from captum_ib.app import visitors as module
from captum_ib.app.visitors import Visitors


@pytest.fixture
def left():
    return []


@pytest.fixture
def time():
    return [0.0]


@pytest.fixture
def visitors(tmp_path, left, time):
    return Visitors(tmp_path, left.append, lambda: time[0])


def names(folder) -> set[str]:
    return {file.name for file in folder.iterdir()}


def test_newcomers_push_out_newcomers_not_those_with_an_open_page(visitors, monkeypatch):
    monkeypatch.setattr(module, "VISITORS", 3)
    busy = [visitors.welcome() for _ in range(2)]
    for number, cookie in enumerate(busy):
        assert visitors.enter(cookie, f"session{number}")
    passing = [visitors.welcome() for _ in range(5)]
    assert [visitors.knows(cookie) for cookie in busy] == [True, True]
    assert [visitors.knows(cookie) for cookie in passing] == [False] * 4 + [True]
    assert visitors.enter(passing[-1], "session2")
    assert visitors.knows(visitors.welcome()) and not visitors.knows(busy[0])  # all have a page


def test_who_goes_takes_the_uploads_along(visitors, monkeypatch, tmp_path):
    monkeypatch.setattr(module, "VISITORS", 1)
    assert visitors.keep(visitors.welcome(), "x.png", b"x") is not None
    cookie = visitors.welcome()
    assert names(tmp_path) == set() and visitors.knows(cookie)


def test_of_too_many_pages_the_oldest_is_left(visitors, left, tmp_path):
    cookie = visitors.welcome()
    for number in range(64):
        assert visitors.enter(cookie, f"session{number}")
    visitors.choose(cookie, "session0", visitors.keep(cookie, "x.png", b"x"))
    assert left == [] and len(names(tmp_path)) == 1
    assert visitors.enter(cookie, "session64")
    assert left == ["session0"] and names(tmp_path) == set()


def test_of_too_many_uploads_the_oldest_goes_whose_ever_it_is(visitors, time, tmp_path):
    one, other = visitors.welcome(), visitors.welcome()
    first = visitors.keep(one, "x.png", b"x")
    for _ in range(31):
        time[0] += 1
        visitors.keep(other, "x.png", b"x")
    assert first.token in names(tmp_path)
    visitors.keep(other, "x.png", b"x")
    assert first.token not in names(tmp_path) and len(names(tmp_path)) == 32
    assert visitors.find(one, first.public) is None


def test_after_an_hour_an_upload_goes_with_the_next(visitors, time, tmp_path):
    cookie = visitors.welcome()
    old = visitors.keep(cookie, "x.png", b"x")
    time[0] = 3600.0
    kept = visitors.keep(cookie, "x.png", b"x")
    assert names(tmp_path) == {old.token, kept.token}
    time[0] = 3600.5
    new = visitors.keep(cookie, "x.png", b"x")
    assert names(tmp_path) == {kept.token, new.token}


def test_a_session_is_the_visitors_who_said_it_first_until_the_page_is_closed(visitors, left):
    one, other = visitors.welcome(), visitors.welcome()
    assert visitors.enter(one, "session1") and not visitors.enter(other, "session1")
    assert visitors.owns(one, "session1") and not visitors.owns(other, "session1")
    upload = visitors.keep(one, "x.png", b"x")
    visitors.choose(other, "session1", upload)
    assert visitors.chosen("session1") is None
    visitors.choose(one, "session1", upload)
    assert visitors.chosen("session1") == upload
    visitors.leave("session1")
    assert left == ["session1"] and not upload.path.exists()
    assert visitors.enter(other, "session1") and visitors.chosen("session1") is None


def test_nobody_keeps_nothing(visitors, tmp_path):
    assert visitors.keep("nobody", "x.png", b"x") is None and names(tmp_path) == set()
    assert not visitors.enter("nobody", "session1") and not visitors.asked_for("nobody", "x")
