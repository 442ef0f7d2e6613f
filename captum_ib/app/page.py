"""What the page does when it is used: the chosen picture, its preview, and the answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from PIL import Image

from captum_ib import methods
from captum_ib.app import cards
from captum_ib.app.asking import Question, answer
from captum_ib.app.offers import Offer
from captum_ib.app.results import Results
from captum_ib.app.running import Running
from captum_ib.app.uploads import Limits, read_upload
from captum_ib.app.visitors import Upload, Visitors
from captum_ib.hooks import Stopped

MISTAKES = (ValueError, TypeError, OSError, RuntimeError, AssertionError, ArithmeticError)
"""What can go wrong with somebody's input; said on the page in one sentence."""


@dataclass(frozen=True)
class Source:
    """Where the chosen picture is: the number of an example, or an uploaded file."""

    example: int | None = None
    file: Upload | None = None


class Page:
    """What the page's events do; knows the models, the limits and the results, no components.

    Args:
        offers: the models by name.
        limits: of uploads.
        results: where files for download go.
        visitors: keeps the uploads, and knows which one a page has chosen.
        running: what is being explained, so that it can be stopped.
    """

    def __init__(
        self,
        offers: Mapping[str, Offer],
        limits: Limits,
        results: Results,
        visitors: Visitors,
        running: Running,
    ) -> None:
        self.offers = offers
        self.limits = limits
        self.results = results
        self.visitors = visitors
        self.running = running

    def uploaded(self, session: str) -> Source:
        """The upload that the page of this session has chosen; whose it is was asked before."""
        return Source(file=self.visitors.chosen(session))

    def picture(self, model: str, source: Source) -> tuple[Image.Image, str]:
        """The chosen picture and its name.

        Raises:
            ValueError: there is none, or its file can't be read.
        """
        if source.file is not None:
            upload = source.file
            return read_upload(upload.path, self.limits, upload.name), upload.name
        if source.example is None:
            raise ValueError("no picture is chosen: upload one, or pick an example")
        example = self.offers[model].examples[source.example]
        return example.picture, f"example-{source.example + 1}.png"

    def preview(self, model: str, source: Source) -> str:
        """The chosen picture as HTML, or what is wrong with it."""
        try:
            return cards.preview_html(*self.picture(model, source))
        except MISTAKES as error:
            return cards.error_html(error)

    def explain(
        self,
        session: str,
        model: str,
        source: Source,
        caption: str | None,
        target: str | None,
        chosen: list[str],
        layers: list[str],
        beta: float | None,
        steps: float | None,
        seed: float | None,
    ) -> Iterator[tuple[str, str]]:
        """State and cards as HTML, again after each method; the last time with downloads."""
        yield cards.note_html(f"waiting for {model} …"), ""
        try:
            if model not in self.offers:
                raise ValueError("no model is chosen")
            offer = self.offers[model]
            picture, name = self.picture(model, source)
            question = Question(
                picture=picture,
                name=name,
                asked=(caption if offer.pair else target) or "",
                methods=tuple(chosen),
                layers=tuple(layers),
                beta=beta,
                steps=_whole(steps, "steps"),
                seed=_whole(seed, "the seed") or 0,
            )
            with self.running.event(session) as stop:
                yield from self._answers(offer, question, stop)
        except Stopped:
            yield cards.note_html("stopped"), ""
        except MISTAKES as error:
            yield cards.error_html(error), ""

    def _answers(
        self, offer: Offer, question: Question, stop: threading.Event
    ) -> Iterator[tuple[str, str]]:
        current = None
        for current in answer(offer, question, stop):
            if current.waiting:
                count = len(current.results) + 1
                total = count + len(current.waiting) - 1
                title = methods.get(current.waiting[0]).title
                note = cards.note_html(f"{title} … ({count} of {total})")
                yield note, cards.answer_html(current)
        if current is not None:
            token, files = self.results.add(current)
            shown = ", ".join(result.row.title for result in current.results)
            done = f"done: {shown} on {offer.loaded.name}, seed {question.seed}"
            yield cards.note_html(done), cards.answer_html(current, token, files)


def _whole(value: float | None, name: str) -> int | None:
    if value is None:
        return None
    if value != int(value):
        raise ValueError(f"{name} must be a whole number, got {value:g}")
    return int(value)
