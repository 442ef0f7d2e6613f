"""Answer a question of the page: which picture, which caption or class, which methods."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from PIL import Image

from captum_ib.app.offers import Offer
from captum_ib.explaining.choices import Choice, choose
from captum_ib.explaining.question import make_subject
from captum_ib.explaining.results import Origin
from captum_ib.explaining.running import Finding, explain_choice
from captum_ib.explaining.subject import Subject
from captum_ib.hooks import check_stop, stopping
from captum_ib.loading.sounds import Sound

MAX_STEPS = 1000
"""A request of more steps would keep everybody else waiting."""
_LOOK = 0.1  # seconds between two looks whether somebody who waits for a model still wants it


@dataclass(frozen=True)
class Question:
    """What somebody wants to know.

    Attributes:
        picture: of any size, RGB, or a sound; ``None`` of texts alone.
        name: of its file.
        asked: the caption, the question, or the second of two texts; or the class, empty for the
            likeliest.
        methods: names, one or several.
        layers: names; none for each method's recommended ones. Methods that explain the input have
            none.
        beta: weight of the information; ``None`` for each method's default.
        steps: of the fit or the path; ``None`` for each method's default.
        seed: of the noise.
        first: the only text, or the first of two.
    """

    picture: Image.Image | Sound | None
    name: str
    asked: str = ""
    methods: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    beta: float | None = None
    steps: int | None = None
    seed: int = 0
    first: str = ""


@dataclass(frozen=True)
class Answer:
    """What is known so far.

    Attributes:
        subject: the picture and its question as the model sees them.
        results: one per method that is done.
        waiting: names of the methods that are not.
        origin: for the records of the results.
    """

    subject: Subject
    results: tuple[Finding, ...]
    waiting: tuple[str, ...]
    origin: Origin


def answer(
    offer: Offer, question: Question, stop: threading.Event | None = None
) -> Iterator[Answer]:
    """Explain with one method after the other; yields before the first and after each.

    The model is locked while a method runs, not between two of them: whoever stops listening holds
    up nobody.

    Args:
        offer: the model.
        question: what to explain, and how.
        stop: ends a running method between two of its steps, and the wait for the model.

    Raises:
        Stopped: ``stop`` was set.
        ValueError, TypeError, RuntimeError, AssertionError: something in the question does not work
            (Captum says some mistakes with a bare ``assert``).
    """
    choices = _checked(offer, question)
    asked = question.asked.strip() or None
    given = question.first.strip() if question.picture is None else question.picture
    stop = stop or threading.Event()
    with _taken(offer, stop):
        subject = make_subject(offer.loaded, given, asked, offer.device, torch.float32)
    names = tuple(choice.row.name for choice in choices)
    origin = Origin(offer.loaded.name, question.name, question.seed, str(offer.device), "float32")
    current = Answer(subject, (), names, origin)
    yield current
    for count, choice in enumerate(choices, start=1):
        with _taken(offer, stop):
            result = explain_choice(subject, choice, show_progress=False)
        current = replace(current, results=(*current.results, result), waiting=names[count:])
        yield current


@contextmanager
def _taken(offer: Offer, stop: threading.Event) -> Iterator[None]:
    """The model for one at a time, while ``stop`` is not set."""
    # Opened and closed around each method: a generator may go on in another thread, where what a
    # context variable holds is not known.
    with stopping(stop):
        check_stop()
        while not offer.lock.acquire(timeout=_LOOK):
            check_stop()
        try:
            yield
        finally:
            offer.lock.release()


def _checked(offer: Offer, question: Question) -> list[Choice]:
    if not question.methods:
        raise ValueError("no method is chosen: choose one or several")
    given = {"beta": question.beta, "steps": question.steps, "seed": question.seed}
    choices = choose(offer.loaded, question.methods, layers=question.layers, given=given)
    if offer.texts and not question.first.strip() and not offer.pair:
        raise ValueError(f"the text is empty: {offer.loaded.name} classifies texts")
    if offer.texts and offer.pair and not (question.first.strip() and question.asked.strip()):
        raise ValueError(f"a text is empty: {offer.loaded.name} compares two texts")
    if offer.texts != (question.picture is None):
        raise ValueError(f"no {offer.what} is chosen: upload one, or pick an example")
    if offer.answers and not question.asked.strip():
        raise ValueError(f"the question is empty: {offer.loaded.name} answers one about a picture")
    if offer.pair and not question.asked.strip():
        raise ValueError(
            f"the caption is empty: {offer.loaded.name} compares a {offer.what} with a text"
        )
    if question.beta is not None and not (math.isfinite(question.beta) and question.beta >= 0):
        raise ValueError(f"β must be a number of at least 0, got {question.beta}")
    if question.steps is not None and not 1 <= question.steps <= MAX_STEPS:
        raise ValueError(f"steps must lie in 1 to {MAX_STEPS}, got {question.steps}")
    if not 0 <= question.seed < 2**63:
        raise ValueError(f"the seed must be a whole number of at least 0, got {question.seed}")
    return choices
