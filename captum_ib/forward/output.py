"""What a forward function gives: the tensor that is explained, and what its numbers are."""

# Outputs of a model have any type.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

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


Head = Literal["sigmoid", "softmax", "other"]
"""What the last operation of a model is, where a graph shows it."""

_SAME = re.compile(r"View|Reshape|Squeeze|Unsqueeze|Transpose|Permute|^T$|Alias|ToCopy|Clone|Slice")
"""Operations behind which an output's numbers are still what they were."""


def squashed_by(output: Tensor) -> Head:
    """What made probabilities of a model's output, of which a graph is there; else ``"other"``.

    The graph says so, of a module as of a function.

    >>> z = torch.zeros(2, 3, requires_grad=True)
    >>> squashed_by(z.sigmoid().squeeze()), squashed_by(torch.softmax(z, 1)), squashed_by(z + 1)
    ('sigmoid', 'softmax', 'other')
    """
    node = output.grad_fn
    while node is not None:
        name = re.sub(r"Backward\d*$", "", node.name())
        if name in ("Sigmoid", "Softmax"):
            return "sigmoid" if name == "Sigmoid" else "softmax"
        if not _SAME.search(name):
            return "other"
        node = node.next_functions[0][0]
    return "other"


def head_of(run: Callable[..., Any], *given: Any) -> Head | None:
    """What a forward function ends in, by a pass with a graph; ``None``: it made none.

    Args:
        run: the forward function, or a part of it.
        given: one sample.
    """
    leaves = [
        value.detach().clone().requires_grad_()
        if isinstance(value, Tensor) and value.is_floating_point()
        else value
        for value in given
    ]
    with torch.enable_grad():
        output = output_tensor(run(*leaves), 1)
    return squashed_by(output) if output.requires_grad else None


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
