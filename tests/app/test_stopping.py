"""Whoever stops, leaves, or ends the server does not wait for what runs."""

from __future__ import annotations

import re
import signal
import threading
import time

import pytest
import torch

from captum_ib.app.asking import Question, answer
from captum_ib.app.page import Page, Source
from captum_ib.app.results import Results
from captum_ib.app.running import Running
from captum_ib.app.uploads import Limits
from captum_ib.app.visitors import Visitors
from tests.app.serving import serving
from tests.app.stranger import Stranger

DONE = 3  # steps of a fit, after which it is stopped


@pytest.fixture
def page(offers, tmp_path):
    for name in ("results", "uploads"):
        (tmp_path / name).mkdir()
    running = Running()
    results, visitors = Results(tmp_path / "results"), Visitors(tmp_path / "uploads", running.stop)
    return Page(offers, Limits(), results, visitors, running)


def explain(page, session: str, model: str, chosen: list[str], steps: int | None = None):
    offer = page.offers[model]
    asked = offer.examples[0].question
    given = (Source(example=0), asked, asked, chosen, [], None, steps, 0)
    return list(page.explain(session, model, *given))


def after_steps(monkeypatch, act) -> list[int]:
    """Call ``act`` in the step number ``DONE`` of a fit; the list grows with each step."""
    steps: list[int] = []
    step = torch.optim.Adam.step

    def counted(self, *args, **keywords):
        steps.append(len(steps))
        if len(steps) == DONE:
            act()
        return step(self, *args, **keywords)

    monkeypatch.setattr(torch.optim.Adam, "step", counted)
    return steps


@pytest.mark.parametrize(
    ("model", "method"), [("zoo:vit-scenes", "coiba"), ("zoo:clip-scenes", "m2ib")]
)
def test_a_fit_of_1000_steps_ends_with_the_step_in_which_it_was_stopped(
    page, monkeypatch, model, method
):
    steps = after_steps(monkeypatch, lambda: page.running.stop("somebody"))
    *_, (state, cards) = explain(page, "somebody", model, [method, "nib"], 1000)
    assert len(steps) == DONE
    assert "stopped" in state and "Not explained" not in state and cards == ""
    assert not page.offers[model].lock.locked()


def test_stopping_one_visitor_stops_no_other(page, monkeypatch):
    steps = after_steps(monkeypatch, lambda: page.running.stop("somebody else"))
    *_, (state, _) = explain(page, "somebody", "zoo:vit-scenes", ["coiba"], 6)
    assert "done: CoIBA" in state and len(steps) == 5  # the last step only evaluates


def test_no_model_at_all_is_said_in_words(page):
    nothing = (None, Source(example=0), None, None, [], [], None, None, None)
    *_, (state, _) = page.explain("somebody", *nothing)
    assert "Not explained:</b> no model is chosen" in state


def test_who_waits_for_a_model_can_be_stopped(classifier):
    stop = threading.Event()
    with classifier.lock:
        example = classifier.examples[0]
        waiting = answer(classifier, Question(example.picture, "x.png", methods=("nib",)), stop)
        threading.Timer(0.3, stop.set).start()
        with pytest.raises(RuntimeError, match="stopped between two steps"):
            next(waiting)


def test_two_visitors_with_the_same_model_get_what_each_gets_alone(page, classifier):
    flags = [parameter.requires_grad for parameter in classifier.loaded.model.parameters()]
    methods = {"one": ["coiba", "nib"], "two": ["nib", "iba"]}
    alone = {
        name: explain(page, name, "zoo:vit-scenes", rows)[-1] for name, rows in methods.items()
    }
    together: dict[str, tuple[str, str]] = {}

    def run(name: str) -> None:
        together[name] = explain(page, name, "zoo:vit-scenes", methods[name])[-1]

    threads = [threading.Thread(target=run, args=(name,)) for name in methods]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name in methods:
        assert together[name][0] == alone[name][0] and "done: " in alone[name][0]
        maps, expected = (
            re.sub(r"\d+\.\d s, at", "", cards.partition('<div class="ib-downloads">')[0])
            for cards in (together[name][1], alone[name][1])
        )
        assert maps == expected
    assert [parameter.requires_grad for parameter in classifier.loaded.model.parameters()] == flags


# In the running app: each fit waits in its third step until it is let go.

COUNT = """
import os, time, pathlib, torch
folder, step = pathlib.Path(os.environ["TMPDIR"]), torch.optim.Adam.step
def counted(self, *args, **keywords):
    if (folder / "armed").exists():
        with (folder / "steps").open("a") as steps:
            steps.write("x")
        while (folder / "steps").stat().st_size == 3 and not (folder / "go").exists():
            time.sleep(0.01)
    return step(self, *args, **keywords)
torch.optim.Adam.step = counted
from captum_ib.app.running import Running
stop_all = Running.stop_all
def told(self):
    stop_all(self)
    (folder / "ending").touch()
Running.stop_all = told
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    pytest.importorskip("gradio", reason="the page needs the extra app")
    with serving(tmp_path_factory.mktemp("tmp"), COUNT) as served:
        yield served


def wait_for(condition) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("it did not happen")


def steps_of(served) -> int:
    file = served.folder / "steps"
    return file.stat().st_size if file.exists() else 0


def start_long_fit(served, stranger) -> None:
    for name in ("steps", "go"):
        (served.folder / name).unlink(missing_ok=True)
    (served.folder / "armed").touch()
    values = ["zoo:clip-scenes", None, "a red circle", "", ["m2ib"], [], None, 1000, 0, None]
    assert stranger.join("ib-run.click", values).status_code == 200
    wait_for(lambda: steps_of(served) == DONE)


def test_the_button_ends_a_running_fit(served):
    with Stranger(served.address) as stranger:
        start_long_fit(served, stranger)
        answers: list[str] = []
        listening = threading.Thread(target=lambda: answers.append(stranger.answers()))
        listening.start()
        stop = stranger.join("ib-stop.click", [])
        assert stop.status_code == 200
        with Stranger(served.address) as other:  # whoever comes later, after the button was heard
            assert '"success":true' in other.ask("ib-stop.click", [])
        (served.folder / "go").touch()
        listening.join()
    assert "stopped" in answers[0] and "done: " not in answers[0]
    assert steps_of(served) == DONE


def test_a_closed_page_ends_its_running_fit(served):
    with Stranger(served.address) as stranger:
        heartbeat = f"/gradio_api/heartbeat/{stranger.session}"
        with stranger.http.stream("GET", heartbeat) as open_page:
            alive = open_page.iter_text()  # kept: its end would close the connection
            next(alive)
            (path,) = stranger.upload().json()
            stranger.choose(path)
            before = served.uploads
            start_long_fit(served, stranger)
        wait_for(lambda: served.uploads < before)  # the closing was seen
        (served.folder / "go").touch()
    with Stranger(served.address) as other:
        values = ["zoo:clip-scenes", None, "a red circle", "", ["nib"], [], None, None, 0, None]
        assert "done: NIB" in other.ask("ib-run.click", values)  # the model is free
    assert steps_of(served) == DONE


def test_the_end_of_the_server_ends_a_running_fit(served):  # the last test: it ends the server
    with Stranger(served.address) as stranger:
        start_long_fit(served, stranger)
        served.process.send_signal(signal.SIGTERM)
        wait_for(lambda: (served.folder / "ending").exists())
        (served.folder / "go").touch()
        served.process.wait(timeout=60)
    assert steps_of(served) == DONE
    assert list(served.folder.glob("captum-ib-app-*")) == []
