"""What the page does when it is used: the chosen picture, its preview, and the answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from captum_ib import methods
from captum_ib.app import cards
from captum_ib.app.asking import Question, answer
from captum_ib.app.offers import Offer
from captum_ib.app.results import Results
from captum_ib.app.uploads import Limits, read_upload

MISTAKES = (ValueError, TypeError, OSError, RuntimeError, AssertionError)
"""What can go wrong with somebody's input; said on the page in one sentence."""


@dataclass(frozen=True)
class Source:
    """Where the chosen picture is: the number of an example, or an uploaded file."""

    example: int | None = None
    file: str | None = None


class Page:
    """What the page's events do; knows the models, the limits and the results, no components.

    Args:
        offers: the models by name.
        limits: of uploads.
        results: where files for download go.
    """

    def __init__(self, offers: Mapping[str, Offer], limits: Limits, results: Results) -> None:
        self.offers = offers
        self.limits = limits
        self.results = results

    def picture(self, model: str, source: Source) -> tuple[Image.Image, str]:
        """The chosen picture and its name.

        Raises:
            ValueError: there is none, or its file can't be read.
        """
        if source.file is not None:
            return read_upload(Path(source.file), self.limits), Path(source.file).name
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
        model: str,
        source: Source,
        caption: str,
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
            offer = self.offers[model]
            picture, name = self.picture(model, source)
            asked = (caption if offer.pair else target) or ""
            question = Question(
                picture=picture,
                name=name,
                asked=asked,
                methods=tuple(chosen),
                layers=tuple(layers),
                beta=beta,
                steps=_whole(steps, "steps"),
                seed=_whole(seed, "the seed") or 0,
            )
            current = None
            for current in answer(offer, question):
                if current.waiting:
                    count = len(current.results) + 1
                    total = count + len(current.waiting) - 1
                    title = methods.get(current.waiting[0]).title
                    yield (
                        cards.note_html(f"{title} … ({count} of {total})"),
                        cards.answer_html(current),
                    )
            if current is not None:
                token, files = self.results.add(current)
                shown = ", ".join(result.row.title for result in current.results)
                done = f"done: {shown} on {model}, seed {question.seed}"
                yield cards.note_html(done), cards.answer_html(current, token, files)
        except MISTAKES as error:
            yield cards.error_html(error), ""


def _whole(value: float | None, name: str) -> int | None:
    if value is None:
        return None
    if value != int(value):
        raise ValueError(f"{name} must be a whole number, got {value:g}")
    return int(value)
