"""Every supported model under every method: shape, finite, not constant, replayed, restored."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ib import methods
from tests.models.rows import Row
from tests.models.supported import PAGE, ROWS, page

QUICK = {"n_steps": 2, "n_samples": 2, "seed": 0}
"""Settings of a fit that is only looked at for its form."""


def cases() -> list[Any]:
    return [
        pytest.param(
            row,
            method,
            marks=[pytest.mark.slow] if row.slow else [],
            id=f"{row.library}-{row.name}-{method}".replace(" ", "_"),
        )
        for row in ROWS
        for method in row.shapes
    ]


def state(model: nn.Module) -> list[tuple]:
    """Everything of a model that a method might leave behind."""
    modules = [
        (
            name,
            module.training,
            "forward" in vars(module),
            len(module._forward_hooks) + len(module._forward_pre_hooks),
        )
        for name, module in model.named_modules()
    ]
    parameters = [(name, p.requires_grad, p.grad) for name, p in model.named_parameters()]
    return modules + parameters


def run_once(row: Row, model: nn.Module) -> None:
    """A plain pass: in some models transformers then installs hooks of its own, for good."""
    inputs, additional = row.inputs(), row.additional()
    with torch.no_grad():
        row.forward(model)(
            *(inputs if isinstance(inputs, tuple) else (inputs,)),
            *(() if additional is None else (additional,)),
        )


def attribute(row: Row, model: nn.Module, method: str) -> Any:
    row_settings = dict(QUICK)
    if method == "nib":
        row_settings = {"n_steps": 2}
    if row.target is not None:
        row_settings["target"] = row.target
    explainer = methods.get(method).cls(row.forward(model))
    return explainer.attribute(
        row.inputs(), additional_forward_args=row.additional(), **row_settings
    )


def first(values: Any) -> Any:
    """The first sample of inputs or additional arguments."""
    if isinstance(values, tuple):
        return tuple(value[:1] for value in values)
    return None if values is None else values[:1]


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if not row.slow and "XCiT" not in row.name],
    ids=lambda row: f"{row.library}-{row.name}".replace(" ", "_"),
)
def test_one_sample_alone(row: Row) -> None:
    """The same map as in the batch, with replay; `test_supported` has the exception, XCiT."""
    if row.missing():
        pytest.skip(str(row.missing()))
    explainer = methods.get("nib").cls(row.forward(row.model()))
    settings = {"n_steps": 2} if row.target is None else {"n_steps": 2, "target": row.target}
    inputs, additional = row.inputs(), row.additional()
    together = explainer.attribute(inputs, additional_forward_args=additional, **settings)
    alone = explainer.attribute(
        first(inputs), additional_forward_args=first(additional), **settings
    )
    torch.testing.assert_close(alone, first(together), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(("row", "method"), cases())
def test_supported(row: Row, method: str) -> None:
    missing = row.missing()
    if missing:
        pytest.skip(missing)
    model = row.model()
    run_once(row, model)
    before, values = state(model), [value.clone() for value in model.state_dict().values()]

    # Warnings are errors here, so that running without replay fails where the table has it not.
    if method in row.fallback:
        with pytest.warns(RuntimeWarning, match="running without replay"):
            result = attribute(row, model, method)
    else:
        result = attribute(row, model, method)

    paired = isinstance(result, tuple)
    shapes = row.shapes[method] if paired else (row.shapes[method],)
    maps: tuple[Tensor, ...] = result if paired else (result,)
    assert [tuple(each.shape) for each in maps] == list(shapes)
    for each in maps:
        assert torch.isfinite(each).all()
        assert (each.flatten(1).std(dim=1) > 0).all()
        assert method == "nib" or (each >= 0).all()
    assert state(model) == before
    for new, old in zip(model.state_dict().values(), values, strict=True):
        # CoCa leaves a parameter of its decoder as the memory was, which may be NaN.
        torch.testing.assert_close(new, old, rtol=0, atol=0, equal_nan=True)


def test_the_page_shows_this_table() -> None:
    """`python -m tests.models.supported` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == page()
