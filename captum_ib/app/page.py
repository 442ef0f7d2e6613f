"""What the page does when it is used: the chosen picture, its preview, and the answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from PIL import Image

from captum_ib import methods
from captum_ib.app import cards, links, notes
from captum_ib.app.asking import Answer, Question, answer
from captum_ib.app.offers import Offer
from captum_ib.app.pulse import Pulse, with_pulse
from captum_ib.app.results import Results
from captum_ib.app.running import Running
from captum_ib.app.uploads import Limits, read_heard, read_upload
from captum_ib.app.views import Views
from captum_ib.app.visitors import Upload, Visitors
from captum_ib.hooks import Stopped
from captum_ib.loading.sounds import Sound
from captum_ib.visualization.style import style_from

MISTAKES = (ValueError, TypeError, OSError, RuntimeError, AssertionError, ArithmeticError)
"""What can go wrong with somebody's input; said on the page in one sentence."""

Shown = tuple[str | None, str | None]
"""State and cards as HTML; ``None``: they stay as they are."""


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
        views: what each page shows (default: nothing so far).
    """

    def __init__(
        self,
        offers: Mapping[str, Offer],
        limits: Limits,
        results: Results,
        visitors: Visitors,
        running: Running,
        views: Views | None = None,
    ) -> None:
        self.offers = offers
        self.limits = limits
        self.results = results
        self.visitors = visitors
        self.running = running
        self.views = views or Views()

    def uploaded(self, session: str) -> Source:
        """The upload that the page of this session has chosen; whose it is was asked before."""
        return Source(file=self.visitors.chosen(session))

    def given(self, model: str, source: Source) -> tuple[Image.Image | Sound, str]:
        """The chosen picture or sound, and its name.

        Raises:
            ValueError: there is none, or its file can't be read.
        """
        offer = self.offers[model]
        if source.file is not None:
            upload, read = source.file, read_heard if offer.sounds else read_upload
            return read(upload.path, self.limits, upload.name), upload.name
        if source.example is None:
            raise ValueError(f"no {offer.what} is chosen: upload one, or pick an example")
        picture = offer.examples[source.example].picture
        if picture is None:
            raise ValueError(f"{model} takes texts, and no picture")
        return picture, f"example-{source.example + 1}.{'wav' if offer.sounds else 'png'}"

    def preview(self, model: str, source: Source) -> str:
        """The chosen picture or sound as HTML, or what is wrong; nothing of texts alone."""
        offer = self.offers[model]
        if offer.texts:
            return ""
        try:
            given, name = self.given(model, source)
            if isinstance(given, Sound):
                return notes.sound_html(given, offer.spectrogram(given), name)
            return notes.preview_html(given, name)
        except MISTAKES as error:
            return notes.error_html(error)

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
        first: str | None = None,
    ) -> Iterator[Shown]:
        """State and cards as HTML, again after each method; the last time with downloads.

        Between them the state alone, with steps and seconds.
        """
        self.views.show(session, None)
        yield notes.note_html(f"waiting for {model} …"), ""
        try:
            if model not in self.offers:
                raise ValueError("no model is chosen")
            offer = self.offers[model]
            picture, name = (None, "texts") if offer.texts else self.given(model, source)
            question = Question(
                picture=picture,
                name=name,
                asked=(caption if offer.pair else target) or "",
                methods=tuple(chosen),
                layers=tuple(layers),
                beta=beta,
                steps=_whole(steps, "steps"),
                seed=_whole(seed, "the seed") or 0,
                first=(first or "") if offer.texts else "",
            )
            with self.running.event(session) as stop:
                yield from self._answers(session, offer, question, source, stop)
        except Stopped:
            yield notes.note_html("stopped"), ""
        except MISTAKES as error:
            yield notes.error_html(error), ""

    def _answers(
        self,
        session: str,
        offer: Offer,
        question: Question,
        source: Source,
        stop: threading.Event,
    ) -> Iterator[Shown]:
        current = None
        for one in with_pulse(answer(offer, question, stop)):
            if isinstance(one, Pulse):
                yield _state(offer, current, one), None
            else:
                current = one
                if current.waiting:
                    style = self.views.show(session, current).style
                    yield _state(offer, current), cards.answer_html(current, style=style)
        if current is not None:
            style = self.views.of(session).style
            token, files = self.results.add(current, style)
            self.views.show(session, current, token, tuple(files))
            shown = ", ".join(result.row.title for result in current.results)
            done = f"done: {shown} on {offer.loaded.name}, seed {question.seed}"
            link = links.address(
                offer, question.asked, question.first, question.methods, source.example
            )
            yield notes.note_html(done, link=link), cards.answer_html(current, token, files, style)

    def restyle(
        self,
        session: str,
        opacity: float | None,
        cmap: str | None,
        grey: bool | None,
        contours: float | None,
        masked: bool | None,
    ) -> Iterator[Shown]:
        """The maps that are shown in another style; nothing runs again.

        The cards come at once, the figures among the files a moment later. ``None`` where nothing
        changes.
        """
        try:
            style = style_from(
                {
                    "opacity": opacity,
                    "cmap": cmap or None,
                    "grey": grey,
                    "contours": _whole(contours, "contours"),
                    "masked": masked,
                }
            )
        except MISTAKES as error:
            yield notes.error_html(error), None
            return
        view = self.views.style(session, style)
        if view.answer is None:
            yield None, None
            return
        yield None, cards.answer_html(view.answer, view.token, view.files, style)
        if view.token:
            token, files = self.results.add(view.answer, style, instead=view.token)
            self.views.show(session, view.answer, token, tuple(files))
            yield None, cards.answer_html(view.answer, token, files, style)


def _state(offer: Offer, current: Answer | None, pulse: Pulse | None = None) -> str:
    """Which method runs, and how far it is."""
    if current is None:
        return notes.note_html(f"waiting for {offer.loaded.name} …", pulse=pulse)
    count = len(current.results) + 1
    total = count + len(current.waiting) - 1
    title = methods.get(current.waiting[0]).title
    return notes.note_html(f"{title} … ({count} of {total})", pulse=pulse)


def _whole(value: float | None, name: str) -> int | None:
    if value is None:
        return None
    if value != int(value):
        raise ValueError(f"{name} must be a whole number, got {value:g}")
    return int(value)
