"""The page itself: Gradio's components, and where they stand."""

from __future__ import annotations

from typing import Any

from captum_ib.app import events, notes, style
from captum_ib.app.asking import MAX_STEPS
from captum_ib.app.choices import (
    caption_info,
    class_choices,
    examples_look,
    first_label,
    has,
    layers_info,
    method_choices,
    rows_of,
    upload_info,
)
from captum_ib.app.links import LONGEST
from captum_ib.app.offers import EXAMPLES, Offer
from captum_ib.app.page import Page, Source
from captum_ib.visualization.style import CONTROLS

_WAITING_LINE = 32  # requests in the queue; further ones are told to come back
_LABELS = {
    "opacity": "Opacity",
    "cmap": "Colours",
    "grey": "Grey picture",
    "contours": "Contours",
    "masked": "What remains",
}
_KINDS = {
    "dropdown": "text",
    "textbox": "text",
    "number": "number",
    "slider": "number",
    "checkbox": "flag",
    "file": "file",
    "state": "state",
}


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
            with gr.Column(scale=2, min_width=320, elem_id="ib-left"):
                parts = _inputs(gr, page, first)
            with gr.Column(scale=5, min_width=320, elem_id="ib-right"):
                parts["state"] = gr.HTML(elem_id="ib-state")
                parts["look"] = _look(gr)
                parts["answer"] = gr.HTML(style.EMPTY, elem_id="ib-answer")
        events.connect(gr, page, parts, blocks)
    # Models compute side by side, each one request at a time (Offer.lock).
    return blocks.queue(default_concurrency_limit=len(page.offers), max_size=_WAITING_LINE)


def _inputs(gr: Any, page: Page, first: str) -> dict[str, Any]:
    """The left column."""
    offer = page.offers[first]
    parts: dict[str, Any] = {"source": gr.State(Source(example=0))}
    parts["model"] = gr.Dropdown(
        list(page.offers), value=first, label="Model", filterable=False, elem_id="ib-model"
    )
    parts.update(_picture_parts(gr, page, first))
    parts.update(_question_parts(gr, offer))
    parts["methods"] = gr.Dropdown(
        method_choices(offer),
        value=offer.first_methods,
        multiselect=True,
        label="Methods",
        info="One or several, drawn side by side.",
        elem_id="ib-methods",
    )
    parts["about"] = gr.HTML(notes.methods_html(rows_of(offer.first_methods)))
    parts.update(_settings_parts(gr, offer))
    with gr.Row(elem_id="ib-go"):
        parts["run"] = gr.Button("Explain", variant="primary", elem_id="ib-run", min_width=120)
        parts["stop"] = gr.Button("Stop", variant="secondary", elem_id="ib-stop", min_width=80)
    return parts


def _picture_parts(gr: Any, page: Page, first: str) -> dict[str, Any]:
    """The upload, the examples, and what is chosen."""
    offer, limits = page.offers[first], page.limits
    parts: dict[str, Any] = {}
    with gr.Column(visible=not offer.texts, elem_id="ib-upload") as parts["upload"]:
        label = offer.what.capitalize()
        parts["file"] = gr.File(label=label, file_count="single", height=100, elem_id="ib-file")
        parts["taken"] = gr.HTML(upload_info(offer, limits))
    with gr.Row(elem_id="ib-examples"):
        # Buttons rather than a gallery, whose pictures would be files behind addresses.
        parts["buttons"] = [
            gr.Button(f"Example {i}", elem_id=f"ib-example-{i}", min_width=0)
            for i in range(1, EXAMPLES + 1)
        ]
    parts["pictures"] = gr.HTML(examples_look(offer), elem_id="ib-pictures")
    parts["marks"] = gr.HTML(notes.chosen_html(0), elem_id="ib-marks")
    parts["preview"] = gr.HTML(page.preview(first, Source(example=0)), elem_id="ib-preview")
    return parts


def _question_parts(gr: Any, offer: Offer) -> dict[str, Any]:
    example = offer.examples[0]
    return {
        "first": gr.Textbox(
            value=example.first,
            label=first_label(offer),
            visible=offer.texts,
            max_length=LONGEST,
            elem_id="ib-first",
        ),
        "caption": gr.Textbox(
            value=example.question if offer.pair else "",
            label=offer.asked_label,
            info=caption_info(offer),
            visible=offer.pair,
            max_length=LONGEST,
            elem_id="ib-caption",
        ),
        "target": gr.Dropdown(
            class_choices(offer),
            value="" if offer.pair else example.question or "",
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


def _look(gr: Any) -> list[Any]:
    """The controls of the figures, in the order of ``CONTROLS``; they run nothing."""
    with (
        gr.Accordion("Look of the maps (nothing runs again)", open=False, elem_id="ib-look"),
        gr.Row(),
    ):
        return [_control(gr, control) for control in CONTROLS]


def _control(gr: Any, control: Any) -> Any:
    label, said = _LABELS.get(control.name, control.name), {"elem_id": f"ib-look-{control.name}"}
    if control.choices:
        choices = [("default", ""), *((name, name) for name in control.choices)]
        return gr.Dropdown(choices, value="", label=label, info=control.help, min_width=180, **said)
    if isinstance(control.default, bool):
        return gr.Checkbox(control.default, label=label, info=control.help, min_width=150, **said)
    return gr.Slider(
        control.low,
        control.high,
        control.default,
        step=control.step,
        label=label,
        min_width=200,
        **said,
    )


def functions_of(blocks: Any) -> dict[int, tuple[str, ...]]:
    """What the fields of each of the page's functions can hold, see ``messages``."""
    return {
        number: tuple(_kind(field) for field in function.inputs)
        for number, function in blocks.fns.items()
        if function.fn is not None  # one that only cancels others, or runs in the browser
    }


def _kind(field: Any) -> str:
    kind = field.get_block_name()
    return "texts" if kind == "dropdown" and field.multiselect else _KINDS[kind]
