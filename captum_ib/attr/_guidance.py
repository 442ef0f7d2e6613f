"""From the calls of a pair to calls that know both sides' tokens, for a guided fit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_ib.attr._bottlenecks import Bottlenecks
from captum_ib.forward.call import Call
from captum_ib.attr._contributions import Contributions, contributions
from captum_ib.attr._cross_attention import CrossView, GuidedBottlenecks, GuideSettings
from captum_ib.attr._explain import RunSettings
from captum_ib.hooks import borrowed
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import NamedLayer
from captum_ib.layout import TokenLayout

QUERIES = ("early", "layer")
KEYS = ("contributions", "tokens")


def builder(guide: GuideSettings | None) -> Callable[[Any], Callable[..., Bottlenecks]]:
    """Forward function → what makes its bottlenecks; without a guide the plain ones."""
    return lambda view: Bottlenecks if guide is None else partial(GuidedBottlenecks, view, guide)


def facing(
    dual: DualEncoder,
    calls: Sequence[Call],
    layers: Sequence[NamedLayer],
    layouts: Sequence[TokenLayout | None],
    run: RunSettings,
    queries: str = "early",
    keys: str = "contributions",
) -> tuple[list[Call], list[Contributions]]:
    """The two towers' calls with views that know the tokens of both, and those tokens.

    Args:
        dual: the dual encoder.
        calls: of its two towers.
        layers: one per tower: the (first) bottleneck's.
        layouts: of these layers, where they can't be inferred.
        run: batch size and replay.
        queries: ``"early"`` or ``"layer"``, see :func:`contributions`.
        keys: ``"contributions"`` of the other tower's tokens, or its last layer's ``"tokens"`` in
            the joint space.

    Raises:
        ValueError: another value of ``queries`` or ``keys``; a tower whose last layer has other
            tokens than the bottleneck's.
    """
    for name, value, allowed in (("queries", queries, QUERIES), ("keys", keys, KEYS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, given {value!r}")
    tokens = [
        contributions(call, layer, layout, run, queries == "early")
        for call, layer, layout in zip(calls, layers, layouts, strict=True)
    ]
    sides = []
    for index, call in enumerate(calls):
        other = tokens[1 - index]
        values = other.values
        if keys == "tokens":
            values = _joint_tokens(dual, calls[1 - index], other.counts)
        view: Any = call.forward_func
        view = CrossView.of(view, tokens[index], values, other.counts)
        sides.append(Call(view, call.inputs, call.additional))
    return sides, tokens


def _joint_tokens(dual: DualEncoder, call: Call, counts: Tensor) -> Tensor:
    """The last layer's tokens of a tower in the joint space, ``(N, T, d)``."""
    name = call.forward_func.modality
    with borrowed([dual]), torch.no_grad():
        values = dual.tokens(name, *call.inputs, *call.additional).float()
    if values.shape[1] != counts.shape[1]:
        raise ValueError(
            f"the {name} tower's last layer has {values.shape[1]} tokens, the bottleneck's layer "
            f'{counts.shape[1]}; use keys="contributions", or a later layer'
        )
    return values
