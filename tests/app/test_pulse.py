"""Steps and seconds while a method runs, beside the answers."""

from __future__ import annotations

import threading

import pytest
import torch

from captum_ib.app.pulse import Pulse, with_pulse
from captum_ib.explaining.question import make_subject
from captum_ib.explaining.running import explain_subject
from captum_ib.forward import counting, progress
from captum_ib.methods import get


def test_steps_come_between_the_answers():
    go = threading.Event()

    def answers():
        with progress(4, "IBA", show=False) as tick:
            tick(3)
            go.wait()
            yield "an answer"

    heard = []
    for one in with_pulse(answers(), every=0.01):
        heard.append(one)
        if isinstance(one, Pulse) and one.done == 3:
            go.set()
    *pulses, last = heard
    assert last == "an answer"
    assert (pulses[-1].done, pulses[-1].total) == (3, 4) and pulses[-1].seconds > 0


def test_the_next_method_begins_at_no_step():
    go = threading.Event()

    def answers():
        with progress(4, "IBA", show=False) as tick:
            tick(4)
        yield "first"
        go.wait()
        yield "second"

    heard = []
    for one in with_pulse(answers(), every=0.01):
        heard.append(one)
        if isinstance(one, Pulse) and "first" in heard:
            go.set()
    after = heard[heard.index("first") + 1]
    assert (after.done, after.total) == (0, 0) and heard[-1] == "second"


def test_what_goes_wrong_is_raised_where_somebody_listens():
    def answers():
        yield "first"
        raise ValueError("no such layer")

    heard = with_pulse(answers(), every=10)
    assert next(heard) == "first"
    with pytest.raises(ValueError, match="no such layer"):
        next(heard)


def test_a_fit_says_its_steps(classifier):
    picture = classifier.examples[0].picture
    subject = make_subject(classifier.loaded, picture, None, classifier.device, torch.float32)
    told = []
    with counting(lambda done, total: told.append((done, total))):
        explain_subject(subject, get("coiba"), (), {"n_steps": 3}, show_progress=False)
    explain_subject(subject, get("coiba"), (), {"n_steps": 2}, show_progress=False)
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]
