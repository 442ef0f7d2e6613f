"""Where NIB's path starts: a baseline as the user gave it, and in the axes of a layer."""

# Baselines come in many forms.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from inspect import signature
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_ib.checks import require_finite


class Start(NamedTuple):
    """Where the path starts, as the user gave it: rows of a call with ``n`` samples."""

    baseline: Any
    rows: slice
    n: int


def called(baselines: Any, inputs: Any) -> Any:
    """Baselines, or what a function gives that returns them: of no argument, or of the inputs.

    As Captum takes them, also in a tuple of one.
    """
    if callable(baselines) and not isinstance(baselines, Tensor):
        baselines = baselines() if not signature(baselines).parameters else baselines(inputs)
    if isinstance(baselines, (tuple, list)):
        values = [called(one, inputs) for one in baselines]
        return values[0] if len(values) == 1 else tuple(values)
    return baselines


def baseline_at(start: Start, z: Tensor, name: str) -> Tensor:
    """b at a layer, shaped like its activation, float32.

    Raises:
        TypeError: neither a number nor a tensor.
        ValueError: a tensor that does not broadcast to the activation, NaN or inf.
    """
    baseline = 0.0 if start.baseline is None else start.baseline
    if isinstance(baseline, bool) or not isinstance(baseline, (int, float, Tensor)):
        raise TypeError(
            "baselines must be a number or a tensor shaped like the layer's activation, given "
            f"{type(baseline).__name__}"
        )
    value = torch.as_tensor(baseline, dtype=torch.float32, device=z.device)
    require_finite(value, "baselines")
    if value.ndim == z.ndim and len(value) == start.n:
        value = value[start.rows]
    try:
        return value.detach().expand_as(z)
    except RuntimeError as error:
        raise ValueError(
            f"baselines of shape {tuple(value.shape)} do not broadcast to the activation of layer "
            f"{name}, {tuple(z.shape)}"
        ) from error
