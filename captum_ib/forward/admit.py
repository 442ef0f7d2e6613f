"""Models and layers that can't be explained as they stand: mended where that is sure, else told."""

# Arguments of a model have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from captum_ib.checks import is_sequence
from captum_ib.models.layers import NamedLayer

if TYPE_CHECKING:
    from captum_ib.forward.call import Call
    from captum_ib.hooks import Session

STEADY = 1e-3
"""Largest difference of two passes that are the same, relative to the largest output; in half
precision 50 times as much."""


def admitted(forward_func: Callable[..., Any]) -> Callable[..., Any]:
    """The forward function as it can be explained: of a compiled function the one it was made of.

    Hooks can't be traced, so a compiled function would run without them.

    Raises:
        RuntimeError: a model whose lazy modules have no weights yet.
        ValueError: a model that runs on several devices in threads of its own.
    """
    original = getattr(forward_func, "_torchdynamo_orig_callable", None)
    if original is not None and not isinstance(forward_func, nn.Module):
        return admitted(original)
    if isinstance(forward_func, nn.DataParallel) and len(forward_func.device_ids) > 1:
        raise ValueError(
            f"forward_func is a DataParallel on the devices {forward_func.device_ids}, which runs "
            "copies of the layer in threads of their own; pass forward_func.module, which runs on "
            "one device"
        )
    if isinstance(forward_func, nn.Module):
        for name, parameter in forward_func.named_parameters():
            if is_lazy(parameter):
                raise RuntimeError(
                    f"the parameter {name} of forward_func has no values yet, as those of lazy "
                    "modules before their first pass; call forward_func(inputs) once, and load "
                    "its weights"
                )
    return forward_func


def require_one_device(device_ids: object) -> None:
    """Check ``device_ids`` as Captum's layer methods take them: of one device at most.

    Raises:
        TypeError: neither ``None`` nor a sequence of ints.
        ValueError: several devices.
    """
    if device_ids is None:
        return
    whole = is_sequence(device_ids) and all(isinstance(one, int) for one in device_ids)
    if not is_sequence(device_ids) or not whole:
        raise TypeError(f"device_ids must be a list of ints or None, given {device_ids!r}")
    if len(device_ids) > 1:
        raise ValueError(
            f"device_ids names several devices, {list(device_ids)}, on which DataParallel runs "
            "copies of the layer in threads of their own; pass the model itself, on one device, "
            "and leave device_ids out"
        )


def require_hookable(layers: Sequence[NamedLayer]) -> None:
    """Check that layers are modules that are called, and take hooks.

    Raises:
        RuntimeError: a layer of a scripted, traced or exported model, or a list of layers.
    """
    for name, layer in layers:
        if isinstance(layer, torch.jit.ScriptModule):
            raise RuntimeError(
                f"layer {name} belongs to a scripted or traced model, whose layers can't be "
                "looked into; explain the model from before torch.jit.script or torch.jit.trace"
            )
        forward: Any = getattr(type(layer), "forward", None)
        if forward is nn.Module.forward and "forward" not in vars(layer):
            inside = next((one for one, _ in layer.named_children()), None)
            mend = (
                f"choose one of those in it, for example {name}.{inside!s}"
                if inside is not None
                else "explain the model from before torch.export"
            )
            raise RuntimeError(
                f"layer {name} ({type(layer).__name__}) only holds others, or weights, and is "
                f"never called; {mend}"
            )


@contextmanager
def watched_draws(call: Call) -> Generator[list[bool]]:
    """Whether torch's global generator was drawn from inside, known afterwards."""
    before = _states(call.device)
    drawn: list[bool] = []
    yield drawn
    pairs = zip(before, _states(call.device), strict=True)
    drawn.append(not all(torch.equal(one, other) for one, other in pairs))


def _states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def warn_unsteady(call: Call, session: Session, drew: bool) -> None:
    """Warn of a model that is random, or whose samples act on each other.

    Args:
        call: the samples.
        session: the model, borrowed: in evaluation mode.
        drew: whether it drew random numbers.
    """
    with torch.no_grad():
        if drew:
            gap = _gap(call.run(), session.output)
            if gap is not None:
                warnings.warn(
                    "forward_func is random, although the model is in evaluation mode: two passes "
                    f"on the same inputs differ by {gap:.2g} of the largest output, and so will "
                    "maps; write F.dropout(x, p, self.training), and take torch.rand out",
                    RuntimeWarning,
                    stacklevel=2,
                )
                return
        gap = _alone(call, session) if call.n > 1 else None
    if gap is None and not session.steady:
        gap = float("nan")
    if gap is not None:
        warnings.warn(
            "samples act on each other in forward_func: the first one's output "
            + ("differs" if gap != gap else f"differs by {gap:.2g} of the largest")
            + " when it is alone, or repeated, as behind a batch normalisation without running "
            "statistics; call attribute on one sample at a time",
            RuntimeWarning,
            stacklevel=2,
        )


def _alone(call: Call, session: Session) -> float | None:
    """How much the first sample's output differs when it is alone."""
    try:
        one = call.part(0, 1).run()
    except (RuntimeError, ValueError, TypeError):
        return None  # a function of exactly these samples: it compares each with its own partner
    return _gap(one, session.output[:1])


def _gap(one: Tensor, other: Tensor) -> float | None:
    """The difference relative to the largest, where it is more than rounding."""
    if one.shape != other.shape:
        return float("inf")
    half = one.dtype in (torch.float16, torch.bfloat16) or torch.is_autocast_enabled()
    scale = other.abs().max().float().clamp_min(1e-6)
    gap = float((one - other).abs().max().float() / scale)
    return gap if gap > STEADY * (50 if half else 1) else None
