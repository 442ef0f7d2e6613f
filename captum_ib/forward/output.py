"""What a forward function gives: the tensor that is explained, its classes, or a failure told."""

# Outputs of a model have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import walk_tb
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.checks import is_sequence
from captum_ib.forward.mistakes import size_of

OURS = str(Path(__file__).parents[1])

CHECK = "; check shapes and types: the model must run on these by itself"

_AXES = (
    (r"TokenClassif|CausalLM|MaskedLM|Seq2SeqLM|LMHead|LMOutput", -1),  # (N, T, classes)
    (r"SemanticSegment", 1),  # (N, classes, H, W)
)
"""Kinds of transformers' ``ModelOutput``, by the name of their class, and their class axis."""


def output_tensor(output: Any, rows: int | None = None) -> Tensor:
    """The tensor in a model's output that is explained.

    A tensor is taken as it is. Of a mapping, a sequence or an object it is ``logits``; without
    such an entry, the only floating-point tensor with the samples on axis 0. A loss, or another
    single number, never counts.

    Args:
        output: what the model returned.
        rows: samples on axis 0 that the tensor must have; a single number for one row becomes
            ``(1,)``. ``None``: not checked.

    Raises:
        TypeError: no tensor, several that could be meant, or a complex one.
        ValueError: a tensor without the samples on axis 0.
    """
    if isinstance(output, Tensor):
        return _with_rows(output, rows)
    named = _entry(output, "logits")
    if isinstance(named, Tensor) and named.ndim > 0:
        return _with_rows(named, rows)
    every = list(_tensors(output))
    meant = {
        id(value): value
        for _, value in every
        if value.is_floating_point() and value.ndim > 0 and rows in (None, value.shape[0])
    }
    if len(meant) == 1:
        return next(iter(meant.values()))
    listed = ", ".join(f"{name} {tuple(value.shape)}" for name, value in every)
    raise TypeError(
        f"forward_func returned {type(output).__name__} with "
        + (f"the tensor(s) {listed}: {_unclear(every)}" if every else "no tensor")
        + "; pass a function that returns "
        + (
            f"it, for example forward_func=lambda *args: model(*args){_example(every)}"
            if every
            else "a tensor (N,) or (N, classes) that keeps its gradient, without .numpy(), .item() "
            "or .tolist()"
        )
    )


def class_axis_of(output: Any) -> int | None:
    """Along which axis the classes of a model's output lie, where its kind says so.

    The last one for token classifiers and language models of transformers, axis 1 for its
    semantic segmentation; ``None`` for a plain tensor, and all else.
    """
    if isinstance(output, Tensor):
        return None
    kind = type(output).__name__
    return next((axis for pattern, axis in _AXES if re.search(pattern, kind)), None)


def probabilities(output: Tensor, axis: int = 1) -> Tensor:
    """Softmax along the class axis; of a single logit z its sigmoid, float32.

    A head with one logit is the two-class head (z, 0): index 0 is the logit itself.

    >>> probabilities(torch.tensor([[0.0]])), probabilities(torch.tensor([[0.0, 0.0]]))
    (tensor([[0.5000]]), tensor([[0.5000, 0.5000]]))
    """
    if output.shape[axis] == 1:
        return output.float().sigmoid()
    return torch.softmax(output.float(), dim=axis)


def states_multi_label(model: object) -> bool:
    """Whether a model's configuration says that several of its classes may hold at once."""
    config = getattr(model, "config", None)
    return getattr(config, "problem_type", None) == "multi_label_classification"


def are_probabilities(output: Tensor, axis: int = 1) -> bool:
    """Whether outputs are probabilities: two classes or more, none below 0, sums of 1.

    Logits are that for every row by no chance.

    >>> z = torch.tensor([[0.2, 0.9, -1.0], [2.0, 0.0, 0.1]])
    >>> are_probabilities(z), are_probabilities(z.softmax(1))
    (False, True)
    """
    if output.shape[axis] < 2 or not output.is_floating_point():
        return False
    values = output.detach().float()
    near = 1e-2 if output.dtype in (torch.float16, torch.bfloat16) else 1e-4
    return bool((values >= 0).all()) and bool(((values.sum(dim=axis) - 1).abs() <= near).all())


_SAME = re.compile(r"View|Reshape|Squeeze|Unsqueeze|Transpose|Permute|^T$|Alias|ToCopy|Clone|Slice")
"""Operations behind which an output's numbers are still what they were."""


def squashed_by(output: Tensor) -> str | None:
    """What made probabilities of a model's output: ``"sigmoid"``, ``"softmax"``, else ``None``.

    The graph says so, of a module as of a function; an output without one says nothing.

    >>> z = torch.zeros(2, 3, requires_grad=True)
    >>> squashed_by(z.sigmoid().squeeze()), squashed_by(torch.softmax(z, 1)), squashed_by(z + 1)
    ('sigmoid', 'softmax', None)
    """
    node = output.grad_fn
    while node is not None:
        name = re.sub(r"Backward\d*$", "", node.name())
        if name in ("Sigmoid", "Softmax"):
            return name.lower()
        if not _SAME.search(name):
            return None
        node = node.next_functions[0][0]
    return None


def predicted(output: Tensor, index: Tensor, axis: int = 1) -> Tensor:
    """The likeliest class per row at the target's place, ``(rows,)``.

    Of a single logit z it is the index 0 for z ≥ 0, else 1, as in the head (z, 0).

    Args:
        output: with a multiple of N rows, draw by draw.
        index: ``(N, k)`` as from :func:`~captum_ib.forward.target_index`.
        axis: along which the classes lie.
    """
    column = axis % output.ndim - 1
    place = torch.cat([index[:, :column], index[:, column + 1 :]], dim=1)
    place = place.repeat(output.shape[0] // index.shape[0], 1)
    rows = torch.arange(output.shape[0], device=output.device)
    logits = output.movedim(axis, -1)[(rows, *place.T)]
    return (logits[:, 0] < 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def _with_rows(output: Tensor, rows: int | None) -> Tensor:
    if output.is_complex():
        raise TypeError(
            f"forward_func gives a complex output ({output.dtype}), which has no order; pass a "
            "function that gives real numbers: forward_func=lambda *args: model(*args).abs()"
        )
    if rows is None or (output.ndim > 0 and output.shape[0] == rows):
        return output
    if output.ndim == 0 and rows == 1:
        return output.reshape(1)
    raise ValueError(
        f"forward_func gives an output of shape {tuple(output.shape)} for {rows} sample(s), "
        "expected the samples on axis 0; pass a forward_func that returns (N,) or (N, classes): a "
        ".squeeze() in the head drops the axis of a single sample (.squeeze(1) or .flatten(1) "
        "doesn't), and classes on axis 0 need .T"
    )


def _entry(output: Any, name: str) -> Any:
    if isinstance(output, Mapping):
        return output.get(name)
    return getattr(output, name, None)


def _tensors(output: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """All tensors of an output with how to get them: ``["features"]``, ``[0]``, ``.pooled``."""
    if isinstance(output, Tensor):
        yield path, output
    elif isinstance(output, Mapping):
        for key, value in output.items():
            yield from _tensors(value, f'{path}["{key}"]' if isinstance(key, str) else path)
    elif isinstance(output, Sequence) and not isinstance(output, (str, bytes)):
        for index, value in enumerate(output):
            yield from _tensors(value, f"{path}[{index}]")
    elif not path:
        slots = [name for kind in type(output).__mro__ for name in getattr(kind, "__slots__", ())]
        for key in dict.fromkeys([*getattr(output, "__dict__", ()), *slots]):
            yield from _tensors(getattr(output, key, None), f".{key}")


def _unclear(every: Sequence[tuple[str, Tensor]]) -> str:
    if all(value.ndim == 0 for _, value in every):
        return "a single number, as a loss is, and no output for each sample"
    return "which one to explain can't be told"


def _example(every: Sequence[tuple[str, Tensor]]) -> str:
    return next((name for name, value in every if value.ndim > 0), '["logits"]')


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
