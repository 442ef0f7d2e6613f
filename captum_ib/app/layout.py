"""The page itself: Gradio's components, and which of them an event reads and writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from captum_ib.app import cards, style
from captum_ib.app.asking import MAX_STEPS
from captum_ib.app.choices import (
    class_choices,
    has,
    layers_info,
    method_choices,
    rows_of,
    setting,
    thumbnails,
)
from captum_ib.app.offers import EXAMPLES, Offer
from captum_ib.app.page import Page, Source
from captum_ib.app.uploads import FORMATS

_WAITING_LINE = 32  # requests in the queue; further ones are told to come back
_QUICK: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}


def build(gr: Any, page: Page) -> Any:
    """The Gradio page around ``page``.

    Args:
        gr: the module ``gradio``, which is an extra.
        page: what the events do.
    """
    first = next(iter(page.offers))
    with gr.Blocks(analytics_enabled=False, title="captum-ib") as blocks:
        gr.HTML(style.HEAD)
        with gr.Row(equal_height=False, elem_id="ib-columns"):
            with gr.Column(scale=2, min_width=320):
                parts = _inputs(gr, page, first)
            with gr.Column(scale=5, min_width=320):
                parts["state"] = gr.HTML(elem_id="ib-state")
                parts["answer"] = gr.HTML(style.EMPTY, elem_id="ib-answer")
        _connect(gr, page, parts)
    # Models compute side by side, each one request at a time (Offer.lock).
    return blocks.queue(default_concurrency_limit=len(page.offers), max_size=_WAITING_LINE)


def _inputs(gr: Any, page: Page, first: str) -> dict[str, Any]:
    """The left column."""
    offer = page.offers[first]
    limits = page.limits
    parts: dict[str, Any] = {"source": gr.State(Source(example=0))}
    parts["model"] = gr.Dropdown(
        list(page.offers), value=first, label="Model", filterable=False, elem_id="ib-model"
    )
    parts["file"] = gr.File(label="Picture", file_count="single", height=130, elem_id="ib-file")
    gr.HTML(
        f'<p class="ib-quiet">{", ".join(FORMATS)}; up to {limits.megabytes:g} MB and '
        f"{limits.megapixels:g} megapixels. Or one of these, which the bundled models have not "
        "seen in training:</p>"
    )
    with gr.Row(elem_id="ib-examples"):
        # Buttons rather than a gallery, whose pictures would be files behind addresses.
        parts["buttons"] = [
            gr.Button(f"Example {i}", elem_id=f"ib-example-{i}", min_width=0)
            for i in range(1, EXAMPLES + 1)
        ]
    parts["pictures"] = gr.HTML(cards.examples_html(thumbnails(offer)), elem_id="ib-pictures")
    parts["marks"] = gr.HTML(cards.chosen_html(0), elem_id="ib-marks")
    parts["preview"] = gr.HTML(page.preview(first, Source(example=0)), elem_id="ib-preview")
    parts.update(_question_parts(gr, offer))
    parts["methods"] = gr.Dropdown(
        method_choices(offer),
        value=offer.first_methods,
        multiselect=True,
        label="Methods",
        info="One or several, drawn side by side.",
        elem_id="ib-methods",
    )
    parts["about"] = gr.HTML(cards.methods_html(rows_of(offer.first_methods)))
    parts.update(_settings_parts(gr, offer))
    with gr.Row():
        parts["run"] = gr.Button("Explain", variant="primary", elem_id="ib-run", min_width=120)
        parts["stop"] = gr.Button("Stop", variant="secondary", elem_id="ib-stop", min_width=80)
    return parts


def _question_parts(gr: Any, offer: Offer) -> dict[str, Any]:
    asked = offer.examples[0].question
    return {
        "caption": gr.Textbox(
            value=asked if offer.pair else "",
            label="Caption",
            info="What to look for, in words that the model knows.",
            visible=offer.pair,
            max_length=1000,
            elem_id="ib-caption",
        ),
        "target": gr.Dropdown(
            class_choices(offer),
            value="" if offer.pair else asked or "",
            label="Class",
            info="A label, or the index of a class.",
            visible=not offer.pair,
            allow_custom_value=True,
            elem_id="ib-target",
        ),
    }


def _settings_parts(gr: Any, offer: Offer) -> dict[str, Any]:
    rows = rows_of(offer.first_methods)
    with gr.Accordion("Layers, β, steps, seed", open=False, elem_id="ib-settings"):
        return {
            "layers": gr.Dropdown(
                list(offer.layers),
                value=[],
                multiselect=True,
                allow_custom_value=True,
                label="Layers",
                info=layers_info(offer, rows),
                elem_id="ib-layers",
            ),
            "beta": gr.Number(
                value=None,
                label="β",
                placeholder="the method's",
                info="Weight of the information: more β, fewer bits.",
                interactive=has(rows, "beta"),
                elem_id="ib-beta",
            ),
            "steps": gr.Number(
                value=None,
                label="Steps",
                placeholder="the method's",
                info=f"Of the fit or of the path, 1 to {MAX_STEPS}.",
                interactive=has(rows, "steps"),
                elem_id="ib-steps",
            ),
            "seed": gr.Number(
                value=0,
                label="Seed",
                info="Of the noise: the same seed gives the same map.",
                elem_id="ib-seed",
            ),
        }


def _connect(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Say what happens when a component is used."""
    _connect_model(gr, page, parts)
    _connect_picture(gr, page, parts)
    _connect_methods(gr, page, parts)
    _connect_run(gr, page, parts)


def _connect_model(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Another model has other examples, questions, methods and layers."""

    def on_model(name: str) -> list[Any]:
        offer = page.offers[name]
        rows, asked, start = (
            rows_of(offer.first_methods),
            offer.examples[0].question,
            Source(example=0),
        )
        return [
            start,
            None,
            cards.examples_html(thumbnails(offer)),
            cards.chosen_html(0),
            page.preview(name, start),
            gr.update(visible=offer.pair, value=asked if offer.pair else ""),
            gr.update(
                visible=not offer.pair,
                choices=class_choices(offer),
                value="" if offer.pair else asked or "",
            ),
            gr.update(choices=method_choices(offer), value=offer.first_methods),
            cards.methods_html(rows),
            gr.update(
                choices=list(offer.layers),
                value=[],
                info=layers_info(offer, rows),
            ),
            gr.update(interactive=has(rows, "beta"), value=None),
            gr.update(interactive=has(rows, "steps"), value=None),
            "",
            style.EMPTY,
        ]

    names = (
        "source file pictures marks preview caption target methods about layers beta steps state "
        "answer"
    )
    parts["model"].change(
        on_model, parts["model"], [parts[name] for name in names.split()], **_QUICK
    )


def _connect_picture(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """An example or an upload: whichever came last is the picture."""
    model, source, preview = parts["model"], parts["source"], parts["preview"]

    def on_example(index: int, name: str) -> list[Any]:
        offer, chosen = page.offers[name], Source(example=index)
        asked = offer.examples[index].question or ""
        caption, target = (asked, "") if offer.pair else ("", asked)
        mark = cards.chosen_html(index)
        return [chosen, None, mark, page.preview(name, chosen), caption, target]

    shown = [parts[part] for part in "source file marks preview caption target".split()]
    for index, button in enumerate(parts["buttons"]):
        button.click(_with(index, on_example), model, shown, **_QUICK)

    # The file's field is an input so that the browser sends it: the door looks whose the file is,
    # and hands on nothing of it.
    def on_file(name: str, _: None, request: Any) -> tuple[Source, str, str]:
        chosen = page.uploaded(request.session_hash)
        return chosen, page.preview(name, chosen), cards.chosen_html(None)

    _wants_request(gr, on_file)
    for event in (parts["file"].upload, parts["file"].clear):
        event(on_file, [model, parts["file"]], [source, preview, parts["marks"]], **_QUICK)


def _connect_methods(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Other methods have other settings."""

    def on_methods(name: str, chosen: list[str]) -> list[Any]:
        rows = rows_of(chosen)
        return [
            cards.methods_html(rows),
            gr.update(info=layers_info(page.offers[name], rows)),
            *(setting(gr, rows, option) for option in ("beta", "steps")),
        ]

    described = [parts["about"], parts["layers"], parts["beta"], parts["steps"]]
    parts["methods"].input(on_methods, [parts["model"], parts["methods"]], described, **_QUICK)


def _connect_run(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Explain, and stop."""
    names = "model source caption target methods layers beta steps seed"

    def on_run(request: Any, *given: Any) -> Iterator[tuple[str, str]]:
        yield from page.explain(request.session_hash, *given)

    _wants_request(gr, on_run)
    running = gr.on(
        [parts["run"].click, parts["caption"].submit],
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
        return cards.note_html("stopped")

    _wants_request(gr, on_stop)
    parts["stop"].click(on_stop, None, parts["state"], cancels=[running], **_QUICK)


def functions_of(blocks: Any) -> dict[int, tuple[str, ...]]:
    """What the fields of each of the page's functions can hold, see ``messages``."""
    return {
        number: tuple(_kind(field) for field in function.inputs)
        for number, function in blocks.fns.items()
        if function.fn is not None  # one that only cancels others is not called
    }


def _kind(field: Any) -> str:
    kind = field.get_block_name()
    if kind == "dropdown":
        return "texts" if field.multiselect else "text"
    kinds = {"textbox": "text", "number": "number", "file": "file", "state": "state"}
    return kinds[kind]


def _with(index: int, function: Callable[[int, str], list[Any]]) -> Callable[[str], list[Any]]:
    # Gradio counts a function's parameters, and knows no partial ones.
    def with_index(name: str) -> list[Any]:
        return function(index, name)

    return with_index


def _wants_request(gr: Any, function: Any) -> None:
    """Say that Gradio is to add the request; it reads the annotation, and knows no strings."""
    function.__annotations__["request"] = gr.Request
