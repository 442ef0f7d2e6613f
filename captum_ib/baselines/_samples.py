"""The comparators' one loop: a map for all samples, part by part, and for both towers of a pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from captum_ib.checks import BatchSize, require_finite
from captum_ib.forward import Call, as_given, in_parts, per_call, samples_at_once


def explained(
    calls: Sequence[Call],
    explain: Callable[..., Tensor],
    internal_batch_size: BatchSize = None,
    rows_per_sample: int = 1,
    **settings: Any,
) -> Any:
    """What ``attribute`` returns: the maps that ``explain`` gives for parts of the calls.

    Args:
        calls: the call, or the two of a pair.
        explain: (some of the samples, setting, …) → their maps.
        internal_batch_size: most rows at once.
        rows_per_sample: that ``explain`` runs at once.
        settings: in the order in which ``explain`` takes them; each one value, or one per tower.
            A tensor shaped like the inputs goes along with the samples.

    Raises:
        ValueError: NaN in a map; settings for another number of towers.
    """
    values = [per_call(value, name, calls) for name, value in settings.items()]
    maps: list[Tensor] = []
    for call, *own in zip(calls, *values, strict=True):
        size = samples_at_once(call.n, internal_batch_size, rows_per_sample)
        starts = range(0, call.n, size)
        parts = [
            explain(part, *(_rows(value, call, slice(start, start + size)) for value in own))
            for start, part in zip(starts, in_parts(call, size), strict=True)
        ]
        maps.append(torch.cat(parts))
        require_finite(maps[-1], "the attribution")
    return as_given(maps, calls)


def _rows(value: Any, call: Call, rows: slice) -> Any:
    whole = isinstance(value, Tensor) and value.shape == call.inputs[0].shape
    return value[rows] if whole else value


def as_map(call: Call, values: Tensor) -> Tensor:
    """Values ``(N, H, W)`` → ``(N, 1, H, W)``; values per token ``(N, T)`` → padding 0."""
    if values.ndim == 3:
        return values.unsqueeze(1)
    valid = call.valid_tokens(int(values.shape[1]))
    return values if valid is None else values * valid
