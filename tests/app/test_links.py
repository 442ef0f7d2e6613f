"""Links: each part is held against what the page offers; the door lets flags through as flags."""

from __future__ import annotations

import json

import pytest

from captum_ib.app.links import Link, address, read_link
from captum_ib.app.messages import Refused, read_asked


def test_a_link_without_parts_asks_for_nothing(offers):
    assert read_link(offers, None, None, None, [], None) is None


def test_a_link_with_all_parts(offers):
    link = read_link(offers, "clip-scenes", "a red circle", None, ["m2ib"], 3)
    assert link == Link("zoo:clip-scenes", "a red circle", None, ("m2ib",), 2)


def test_a_text_alone_is_for_the_first_model(offers):
    assert read_link(offers, None, "a red circle", None, None, None) == Link(
        "zoo:clip-scenes", "a red circle"
    )


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("/etc/passwd", None, None, [], None), "the model '/etc/passwd', which is not offered"),
        (("../shared", None, None, [], None), "the model '../shared', which is not offered here"),
        (("x" * 500, None, None, [], None), "the model '" + "x" * 80 + "', which"),
        (("vit-scenes", "x" * 1001, None, [], None), "text has 1001 letters, at most 1000 are"),
        (("vit-scenes", None, None, ["m2ib"], None), "method 'm2ib', which zoo:vit-scenes does"),
        (("vit-scenes", None, None, [], 7), "names example 7, expected 1 to 6"),
        (("vit-scenes", None, None, [], 1.5), "names example 1.5, expected 1 to 6"),
    ],
)
def test_what_is_not_offered_is_said(offers, parts, message):
    with pytest.raises(ValueError, match=message):
        read_link(offers, *parts)


def test_the_link_to_a_question_is_read_back(pair):
    link = address(pair, "a & b?", "", ["m2ib", "nib"], None)
    assert link == "?model=zoo%3Aclip-scenes&text=a+%26+b%3F&method=m2ib&method=nib"


def _asked(value):
    body = {"fn_index": 0, "data": [value], "session_hash": "abcdef"}
    return read_asked(json.dumps(body).encode(), {0: ("flag",)}).data


def test_a_flag_is_true_or_false():
    assert _asked(True) == [True] and _asked(False) == [False]
    for wrong in (1, "true", [True], {"path": "/etc/passwd"}):
        with pytest.raises(Refused):
            _asked(wrong)
