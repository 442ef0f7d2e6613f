"""An error from inside the model: what it was called with, and what is likely wrong."""

# Arguments of a model have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

from torch import Tensor, nn

from captum_ib.checks import is_sequence
from captum_ib.evidence import size_of

OURS = str(Path(__file__).parents[1])

CHECK = "; check shapes and types: the model must run on these by itself"

# Exactly these: a class of the user's own, or of torch's (out of memory), says more as it is.
_TOLD: dict[type[Exception], type[Exception]] = {
    RuntimeError: RuntimeError,
    TypeError: TypeError,
    **dict.fromkeys(
        (ValueError, AssertionError, IndexError, KeyError, AttributeError, NotImplementedError),
        ValueError,
    ),
}


@contextmanager
def told(forward_func: Callable[..., Any], arguments: Sequence[Any]) -> Generator[None]:
    """Errors from inside the model say what it was called with, and what is likely wrong.

    An error of ours passes as it is, and so does any that is not one of Python's own.

    Raises:
        ValueError, TypeError, RuntimeError: with the model's error as its cause.
    """
    try:
        yield
    except tuple(_TOLD) as error:
        kind = _TOLD.get(type(error))
        if kind is None or _raised_by(error).startswith(OURS):
            raise
        given = ", ".join(_described(value) for value in arguments)
        raise kind(
            f"forward_func failed on ({given}): {type(error).__name__}: {error}"
            f"{_mend(error, forward_func, arguments)}"
        ) from error


def _other_axes(model: nn.Module, first: Tensor) -> str:
    """What to do with a picture whose axes are others than the model's, or without samples."""
    stem = next((m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Embedding))), None)
    shape = tuple(first.shape)
    if isinstance(stem, nn.Embedding) and first.ndim == 1 and not first.is_floating_point():
        return f"; token ids have the samples on axis 0, (N, T), given {shape}: pass ids[None]"
    if not isinstance(stem, nn.Conv2d) or not first.is_floating_point():
        return ""
    channels = stem.in_channels
    if channels > _COLOURS:  # the first that is listed, but it takes no picture
        return ""
    if first.ndim == 3 and channels in (shape[0], shape[-1]):
        return f"; pictures have the samples on axis 0, {_WANTED}, given {shape}: pass inputs[None]"
    if first.ndim != 4 or shape[1] == channels:
        return ""
    if shape[-1] == channels:
        return (
            f"; pictures have their channels on axis 1, {_WANTED}, given {shape}: pass "
            "inputs.permute(0, 3, 1, 2)"
        )
    if shape[1] == 1:
        return (
            f"; the model takes {channels} channels, given {shape}, a grey picture: pass "
            f"inputs.expand(-1, {channels}, -1, -1)"
        )
    return f"; the model takes {channels} channels, {_WANTED}, given {shape}"


_WANTED = "(N, channels, height, width)"
_COLOURS = 4  # channels of a picture, at most


def _raised_by(error: Exception) -> str:
    """The file that an error comes from; modes of ours that only pass a call on don't count."""
    codes = [frame.f_code for frame, _ in walk_tb(error.__traceback__)]
    return next(c.co_filename for c in reversed(codes) if c.co_name != "__torch_function__")


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)} on {value.device}"


def _mend(error: Exception, forward_func: Callable[..., Any], arguments: Sequence[Any]) -> str:
    """What is likely wrong, as far as inputs and parameters show it."""
    if isinstance(error, TypeError) and "required positional argument" in str(error):
        return (
            "; what forward_func takes behind the inputs goes into additional_forward_args, in its "
            "order"
        )
    if isinstance(error, TypeError):
        return (
            "; forward_func is called with tensors, by position: for a model that takes keywords "
            "or a dict pass forward_func=lambda x: model(pixels=x), with the layer as a module"
        )
    if "not have been used in the graph" in str(error):
        return (
            "; forward_func takes a gradient of its own across the layer, which is cut off from "
            "what comes before it while it is explained: choose a layer behind that gradient"
        )
    if any(is_sequence(value) for value in arguments):
        return (
            "; a list is handed on as it is, also where samples are "
            "repeated: pass torch.tensor(...), which has a row for each sample"
        )
    model = forward_func if isinstance(forward_func, nn.Module) else nn.Module()
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    if parameter is None or not tensors:
        return CHECK
    for value in tensors:
        if value.device != parameter.device:
            return (
                f"; the model is on {parameter.device}, an argument on {value.device}: move one "
                "of them"
            )
    tables = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    first, size = tensors[0], size_of(model)
    axes = _other_axes(model, first)
    if axes:
        return axes
    if size is not None and first.ndim == 4 and tuple(first.shape[-2:]) != size:
        return (
            f"; the model takes pictures of {size[0]} × {size[1]}, given {first.shape[-2]} × "
            f"{first.shape[-1]}: resize them, as the model's own preprocessing does"
        )
    if isinstance(error, IndexError) and tables and not first.is_floating_point():
        rows = sorted({table.num_embeddings for table in tables})
        return (
            f"; token ids run from {int(first.min())} to {int(first.max())} in a text of "
            f"{first.shape[-1]}, and the model's tables have {', '.join(map(str, rows))} rows: use "
            "the tokenizer of this model, and cut texts to its length"
        )
    for value in tensors:
        if value.is_floating_point() and value.dtype != parameter.dtype:
            own = str(parameter.dtype).removeprefix("torch.")
            return f"; the model's parameters are {own}: pass inputs.to(torch.{own})"
    if not first.is_floating_point() and not tables:
        return f"; the model computes in {parameter.dtype}: pass pictures as inputs.float()"
    return CHECK
