"""Reference inputs, in all forms that users give them, as statistics of layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from captum_ib.bottleneck import ActivationStatistics
from captum_ib.checks import is_sequence, is_tuple
from captum_ib.forward.call import Call, prepare
from captum_ib.forward.layers import estimate
from captum_ib.forward.masks import marks_of, with_marks, without_marks
from captum_ib.forward.pair import TowerCall, reference_calls
from captum_ib.models.layers import NamedLayer


def statistics_of(
    forward_func: Callable[..., Any],
    batches: Iterable[Any],
    sites: Sequence[Sequence[NamedLayer]],
    to_input: bool = False,
) -> ActivationStatistics:
    """Statistics of the layers over batches of reference inputs, or of reference pairs.

    Args:
        forward_func: the model, a function that calls it, or a dual encoder.
        batches: see ``BottleneckAttribution.estimate``.
        sites: layers of its call, or of each of the two calls of a pair, in groups.
        to_input: the layers' inputs.

    Raises:
        TypeError: a batch of another kind.
        ValueError: no batch.
    """
    parts = [_of_batch(forward_func, batch, sites, to_input) for batch in batches]
    if not parts:
        raise ValueError("the loader gave no batch, so there is nothing to estimate from")
    return ActivationStatistics.merge_all(parts)


def references_of(
    forward_func: Callable[..., Any],
    calls: Sequence[Call],
    baselines: object,
    sites: Sequence[Sequence[NamedLayer]],
    to_input: bool = False,
) -> ActivationStatistics:
    """``baselines`` as statistics: given ones, or those of a batch of reference inputs.

    A tuple may hold the model's inputs only, or its inputs and all additional arguments; for a
    dual encoder the two sides, with their masks behind them.

    Raises:
        TypeError: a number or another kind of object.
        ValueError: a wrong number of inputs, or fewer than two references.
    """
    if isinstance(baselines, ActivationStatistics):
        return baselines
    if isinstance(calls[0], TowerCall):
        return _of_batch(forward_func, baselines, sites, to_input)
    (call,) = calls
    given: tuple[object, ...] = baselines if is_tuple(baselines) else (baselines,)
    marks, given = {**call.marks, **marks_of(given)}, without_marks(given)
    tensors = tuple(value for value in given if isinstance(value, Tensor))
    if len(tensors) < len(given):
        raise TypeError(
            "baselines must be a batch of reference inputs (a tensor, or a tuple of tensors like "
            "the inputs) or ActivationStatistics, given "
            f"{', '.join(type(value).__name__ for value in given)}"
        )
    wanted = len(call.inputs)
    if len(tensors) not in (wanted, wanted + len(call.additional)):
        raise ValueError(
            f"baselines hold {len(tensors)} tensors, the model takes {wanted} inputs and "
            f"{len(call.additional)} additional arguments"
        )
    if tensors[0].ndim == 0 or tensors[0].shape[0] < 2:
        raise ValueError(
            f"baselines hold {tensors[0].shape[0] if tensors[0].ndim else 0} reference input(s); a "
            "standard deviation needs at least 2, and some hundred are better"
        )
    additional = tensors[wanted:] or call.additional
    arguments = with_marks((*tensors[:wanted], *additional), marks)  # as said for the call
    reference = prepare(forward_func, arguments[:wanted], arguments[wanted:])
    return estimate([reference], _all(sites), to_input)


def _of_batch(
    forward_func: Callable[..., Any],
    batch: Any,
    sites: Sequence[Sequence[NamedLayer]],
    to_input: bool,
) -> ActivationStatistics:
    merged = ActivationStatistics()
    calls = reference_calls(forward_func, batch, _inputs_of)
    groups = sites if len(calls) > 1 else [_all(sites)]
    for call, layers in zip(calls, groups, strict=True):
        merged.layers.update(estimate([call], layers, to_input).layers)
    return merged


def _all(sites: Sequence[Sequence[NamedLayer]]) -> list[NamedLayer]:
    return [layer for layers in sites for layer in layers]


def _inputs_of(batch: object) -> Tensor | tuple[Tensor, ...]:
    if isinstance(batch, Tensor):
        return batch
    if is_sequence(batch) and batch:
        first = batch[0]
        if isinstance(first, Tensor) or is_tuple(first):
            return first
    raise TypeError(
        "a batch must be a tensor of inputs, or a tuple or list that starts with it, given "
        f"{type(batch).__name__}"
    )
