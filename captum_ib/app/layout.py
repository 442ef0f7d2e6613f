"""The page itself: Gradio's components, and which of them an event reads and writes."""

from __future__ import annotations

from typing import Any

from PIL import Image

from captum_ib import methods
from captum_ib.app import cards, style
from captum_ib.app.asking import MAX_STEPS
from captum_ib.app.offers import Offer
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
    with gr.Blocks(analytics_enabled=False, title="captum-ib", delete_cache=(600, 3600)) as blocks:
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
    parts["examples"] = gr.Gallery(
        _thumbnails(offer),
        show_label=False,
        container=False,
        columns=6,
        allow_preview=False,
        interactive=False,
        buttons=[],
        object_fit="cover",
        elem_id="ib-examples",
    )
    parts["preview"] = gr.HTML(page.preview(first, Source(example=0)), elem_id="ib-preview")
    parts.update(_question_parts(gr, offer))
    parts["methods"] = gr.Dropdown(
        _method_choices(offer),
        value=offer.first_methods,
        multiselect=True,
        label="Methods",
        info="One or several, drawn side by side.",
        elem_id="ib-methods",
    )
    parts["about"] = gr.HTML(cards.methods_html(_rows(offer.first_methods)))
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
            _class_choices(offer),
            value="" if offer.pair else asked or "",
            label="Class",
            info="A label, or the index of a class.",
            visible=not offer.pair,
            allow_custom_value=True,
            elem_id="ib-target",
        ),
    }


def _settings_parts(gr: Any, offer: Offer) -> dict[str, Any]:
    rows = _rows(offer.first_methods)
    with gr.Accordion("Layers, β, steps, seed", open=False, elem_id="ib-settings"):
        return {
            "layers": gr.Dropdown(
                list(offer.layers),
                value=list(offer.first_layers),
                multiselect=True,
                allow_custom_value=True,
                label="Layers",
                info=_layers_info(offer, rows),
                elem_id="ib-layers",
            ),
            "beta": gr.Number(
                value=None,
                label="β",
                placeholder="the method's",
                info="Weight of the information: more β, fewer bits.",
                interactive=_has(rows, "beta"),
                elem_id="ib-beta",
            ),
            "steps": gr.Number(
                value=None,
                label="Steps",
                placeholder="the method's",
                info=f"Of the fit or of the path, 1 to {MAX_STEPS}.",
                interactive=_has(rows, "steps"),
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
            _rows(offer.first_methods),
            offer.examples[0].question,
            Source(example=0),
        )
        return [
            start,
            None,
            gr.update(value=_thumbnails(offer), selected_index=None),
            page.preview(name, start),
            gr.update(visible=offer.pair, value=asked if offer.pair else ""),
            gr.update(
                visible=not offer.pair,
                choices=_class_choices(offer),
                value="" if offer.pair else asked or "",
            ),
            gr.update(choices=_method_choices(offer), value=offer.first_methods),
            cards.methods_html(rows),
            gr.update(
                choices=list(offer.layers),
                value=list(offer.first_layers),
                info=_layers_info(offer, rows),
            ),
            gr.update(interactive=_has(rows, "beta"), value=None),
            gr.update(interactive=_has(rows, "steps"), value=None),
            "",
            style.EMPTY,
        ]

    names = (
        "source file examples preview caption target methods about layers beta steps state answer"
    )
    parts["model"].change(
        on_model, parts["model"], [parts[name] for name in names.split()], **_QUICK
    )


def _connect_picture(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """An example or an upload: whichever came last is the picture."""
    model, source, preview = parts["model"], parts["source"], parts["preview"]

    def on_example(name: str, event: gr.SelectData) -> list[Any]:  # pyright: ignore
        index = int(event.index)
        offer, chosen = page.offers[name], Source(example=index)
        asked = offer.examples[index].question or ""
        caption, target = (asked, "") if offer.pair else ("", asked)
        return [chosen, None, page.preview(name, chosen), caption, target]

    # Gradio reads the annotation to find out that the event is wanted; it knows no strings.
    on_example.__annotations__["event"] = gr.SelectData
    shown = [source, parts["file"], preview, parts["caption"], parts["target"]]
    parts["examples"].select(on_example, model, shown, **_QUICK)

    def on_file(name: str, file: str | None) -> tuple[Source, str]:
        chosen = Source(file=None if file is None else str(file))
        return chosen, page.preview(name, chosen)

    parts["file"].upload(on_file, [model, parts["file"]], [source, preview], **_QUICK)
    parts["file"].clear(on_file, [model, parts["file"]], [source, preview], **_QUICK)


def _connect_methods(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Other methods have other settings."""

    def on_methods(name: str, chosen: list[str]) -> list[Any]:
        rows = _rows(chosen)
        return [
            cards.methods_html(rows),
            gr.update(info=_layers_info(page.offers[name], rows)),
            *(_setting(gr, rows, option) for option in ("beta", "steps")),
        ]

    described = [parts["about"], parts["layers"], parts["beta"], parts["steps"]]
    parts["methods"].input(on_methods, [parts["model"], parts["methods"]], described, **_QUICK)


def _connect_run(gr: Any, page: Page, parts: dict[str, Any]) -> None:
    """Explain, and stop."""
    names = "model source caption target methods layers beta steps seed"
    running = gr.on(
        [parts["run"].click, parts["caption"].submit],
        page.explain,
        [parts[name] for name in names.split()],
        [parts["state"], parts["answer"]],
        show_progress="hidden",
        api_visibility="private",
        trigger_mode="once",
        concurrency_limit=len(page.offers),
        concurrency_id="explain",
    )

    def on_stop() -> str:
        return cards.note_html("stopped")

    parts["stop"].click(on_stop, None, parts["state"], cancels=[running], **_QUICK)


def _setting(gr: Any, rows: list[methods.MethodSpec], option: str) -> Any:
    """A field is open when a chosen method reads it, else empty and closed."""
    if _has(rows, option):
        return gr.update(interactive=True)
    return gr.update(interactive=False, value=None)


def _has(rows: list[methods.MethodSpec], option: str) -> bool:
    return any(option in row.options for row in rows)


def _rows(names: list[str]) -> list[methods.MethodSpec]:
    return [methods.get(name) for name in names]


def _method_choices(offer: Offer) -> list[tuple[str, str]]:
    return [(row.title, row.name) for row in offer.methods]


def _class_choices(offer: Offer) -> list[tuple[str, str]]:
    labels = offer.loaded.labels or []
    unique = [label if labels.count(label) == 1 else str(i) for i, label in enumerate(labels)]
    return [("the likeliest", ""), *zip(unique, unique, strict=True)]


def _layers_info(offer: Offer, rows: list[methods.MethodSpec]) -> str:
    takers = [row for row in rows if row.layers != "none"]
    if not takers:
        return "The chosen methods explain the input and have no layers."
    own = "; ".join(f"{row.title} {_short(offer.defaults[row.name])}" for row in takers)
    towers = " For pairs choose one or more of each tower." if offer.pair else ""
    return f"With none chosen each method takes its own: {own}.{towers}"


def _short(names: tuple[str, ...]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} … {names[-1]}"


def _thumbnails(offer: Offer) -> list[tuple[Image.Image, str]]:
    size = (168, 168)
    return [
        (example.picture.resize(size, Image.Resampling.NEAREST), "") for example in offer.examples
    ]
