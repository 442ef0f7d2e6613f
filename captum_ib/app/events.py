"""What happens when the page is used: which components an event reads, and which it writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from captum_ib.app import links, notes, style
from captum_ib.app.choices import (
    caption_info,
    class_choices,
    examples_look,
    first_label,
    has,
    layers_info,
    method_choices,
    rows_of,
    setting,
    upload_info,
)
from captum_ib.app.page import Page, Shown, Source

_QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}

_TO_RESULTS = """() => {
  const results = document.getElementById("ib-right");
  const top = results.getBoundingClientRect().top;
  if (top < 0 || top > window.innerHeight / 3) results.scrollIntoView({block: "start"});
}"""
"""In the browser: state and maps come into view."""


def connect(gr: Any, page: Page, parts: dict[str, Any], blocks: Any) -> None:
    """Say what happens when a component is used.

    Args:
        gr: the module ``gradio``.
        page: what the events do.
        parts: the components by name.
        blocks: the page as Gradio has it.
    """
    _connect_model(gr, page, parts, blocks)
    _connect_picture(gr, page, parts)
    _connect_methods(gr, page, parts)
    _connect_run(gr, page, parts)
    _connect_look(gr, page, parts)


_OF_MODEL = (
    "source upload file taken pictures marks preview first caption target methods about layers "
    "beta steps state answer"
).split()


def _fields(gr: Any, page: Page, link: links.Link) -> list[Any]:
    """What the fields hold for a model, in the order of ``_OF_MODEL``."""
    offer = page.offers[link.model]
    example, start = offer.examples[link.example], Source(example=link.example)
    chosen = list(link.methods) or offer.first_methods
    rows = rows_of(chosen)
    asked = (example.question or "") if link.text is None else link.text
    first = example.first if link.first is None else link.first
    return [
        start,
        gr.update(visible=not offer.texts),
        gr.update(value=None, label=offer.what.capitalize()),
        upload_info(offer, page.limits),
        examples_look(offer),
        notes.chosen_html(link.example),
        page.preview(link.model, start),
        gr.update(visible=offer.texts, value=first, label=first_label(offer)),
        gr.update(
            visible=offer.pair,
            value=asked if offer.pair else "",
            label=offer.asked_label,
            info=caption_info(offer),
        ),
        gr.update(
            visible=not offer.pair,
            choices=class_choices(offer),
            value="" if offer.pair else asked,
        ),
        gr.update(choices=method_choices(offer), value=chosen),
        notes.methods_html(rows),
        gr.update(choices=list(offer.layers), value=[], info=layers_info(offer, rows)),
        gr.update(interactive=has(rows, "beta"), value=None),
        gr.update(interactive=has(rows, "steps"), value=None),
        "",
        style.EMPTY,
    ]


def _connect_model(gr: Any, page: Page, parts: dict[str, Any], blocks: Any) -> None:
    """Another model has other examples, questions, methods and layers; so has a link."""
    fields = [parts[name] for name in _OF_MODEL]

    def on_model(name: str, request: Any) -> list[Any]:
        page.views.show(request.session_hash, None)
        return _fields(gr, page, links.Link(name))

    _wants_request(gr, on_model)
    # What a person chooses: a link writes the field too, and says the others itself.
    parts["model"].input(on_model, parts["model"], fields, **_QUICK)

    def on_link(*asked: Any) -> list[Any]:
        same = [gr.skip()] * len(_OF_MODEL)
        try:
            link = links.read_link(page.offers, *asked)
        except ValueError as error:
            same[_OF_MODEL.index("state")] = notes.error_html(error)
            return [gr.skip(), *same]
        return [gr.skip(), *same] if link is None else [link.model, *_fields(gr, page, link)]

    # The browser puts the parts of its address in the place of the values of these fields, which
    # take any text.
    carriers = [parts[name] for name in ("target", "caption", "first", "layers", "seed")]
    blocks.load(on_link, carriers, [parts["model"], *fields], js=links.READ, **_QUICK)


def _connect_picture(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """An example or an upload: whichever came last is the picture."""
    model, source, preview = parts["model"], parts["source"], parts["preview"]

    def on_example(index: int, name: str) -> list[Any]:
        offer, chosen = page.offers[name], Source(example=index)
        example = offer.examples[index]
        asked = example.question or ""
        caption, target = (asked, "") if offer.pair else ("", asked)
        mark = notes.chosen_html(index)
        return [chosen, None, mark, page.preview(name, chosen), example.first, caption, target]

    shown = [parts[part] for part in "source file marks preview first caption target".split()]
    for index, button in enumerate(parts["buttons"]):
        button.click(_with(index, on_example), model, shown, **_QUICK)

    # The file's field is an input so that the browser sends it: the door looks whose the file is,
    # and hands on nothing of it.
    def on_file(name: str, _: None, request: Any) -> tuple[Source, str, str]:
        chosen = page.uploaded(request.session_hash)
        return chosen, page.preview(name, chosen), notes.chosen_html(None)

    _wants_request(gr, on_file)
    for event in (parts["file"].upload, parts["file"].clear):
        event(on_file, [model, parts["file"]], [source, preview, parts["marks"]], **_QUICK)


def _connect_methods(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Other methods have other settings."""

    def on_methods(name: str, chosen: list[str]) -> list[Any]:
        rows = rows_of(chosen)
        return [
            notes.methods_html(rows),
            gr.update(info=layers_info(page.offers[name], rows)),
            *(setting(gr, rows, option) for option in ("beta", "steps")),
        ]

    described = [parts["about"], parts["layers"], parts["beta"], parts["steps"]]
    parts["methods"].input(on_methods, [parts["model"], parts["methods"]], described, **_QUICK)


def _connect_run(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Explain, and stop."""
    names = "model source caption target methods layers beta steps seed first"

    def on_run(request: Any, *given: Any) -> Iterator[tuple[Any, Any]]:
        yield from _written(gr, page.explain(request.session_hash, *given))

    _wants_request(gr, on_run)
    starts = [parts["run"].click, parts["caption"].submit, parts["first"].submit]
    gr.on(starts, None, js=_TO_RESULTS, show_progress="hidden")
    running = gr.on(
        starts,
        on_run,
        [parts[name] for name in names.split()],
        [parts["state"], parts["answer"]],
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="once",
        concurrency_limit=len(page.offers),
        concurrency_id="explain",
    )

    def on_stop(request: Any) -> str:
        page.running.stop(request.session_hash)
        return notes.note_html("stopped")

    _wants_request(gr, on_stop)
    parts["stop"].click(on_stop, None, parts["state"], cancels=[running], **_QUICK)


def _connect_look(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Another look of the maps that are there."""

    def on_look(request: Any, *given: Any) -> Iterator[tuple[Any, Any]]:
        yield from _written(gr, page.restyle(request.session_hash, *given))

    _wants_request(gr, on_look)
    slides = [one.release for one in parts["look"] if one.get_block_name() == "slider"]
    others = [one.input for one in parts["look"] if one.get_block_name() != "slider"]
    outputs = [parts["state"], parts["answer"]]
    gr.on([*slides, *others], on_look, parts["look"], outputs, trigger_mode="always_last", **_QUICK)


def _written(gr: Any, shown: Iterator[Shown]) -> Iterator[tuple[Any, Any]]:
    """State and cards for their components; ``None`` leaves one as it is."""
    for state, cards in shown:
        yield (gr.skip() if state is None else state, gr.skip() if cards is None else cards)


def _with(index: int, function: Callable[[int, str], list[Any]]) -> Callable[[str], list[Any]]:
    # Gradio counts a function's parameters, and knows no partial ones.
    def with_index(name: str) -> list[Any]:
        return function(index, name)

    return with_index


def _wants_request(gr: Any, function: Any) -> None:
    """Say that Gradio is to add the request; it reads the annotation, and knows no strings."""
    function.__annotations__["request"] = gr.Request
