"""Targets in all of Captum's forms, and the one value per row that they name."""

# What a model returns, and Captum's targets, have many forms.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Target = int | tuple[int, ...] | Tensor | Sequence[int] | Sequence[tuple[int, ...]] | None


def output_tensor(output: Any) -> Tensor:
    """The tensor in a model's output: itself, ``.logits`` of a ``ModelOutput``, or the first one.

    Raises:
        TypeError: when there is none.
    """
    if isinstance(output, Tensor):
        return output
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    entries = output.values() if isinstance(output, Mapping) else output
    if isinstance(entries, Sequence) or isinstance(output, Mapping):
        for entry in entries:
            if isinstance(entry, Tensor):
                return entry
    raise TypeError(
        f"forward_func returned {type(output).__name__}, expected a tensor, a sequence of tensors "
        "or a ModelOutput; wrap it in a function that returns the tensor to explain"
    )


def target_index(target: Any, output: Tensor) -> Tensor | None:
    """Captum's target forms → ``(N, k)`` indices into the ``k`` axes after the sample axis.

    int or tuple: the same for all samples; tensor or list: one per sample. ``None`` is right for
    one output per sample.

    Raises:
        TypeError: another kind of target.
        ValueError: a wrong number of targets or axes, or an index out of range.
    """
    n, axes = output.shape[0], output.ndim - 1
    if target is None:
        if output[0].numel() != 1:
            raise ValueError(
                f"target is None, but the model gives {output[0].numel()} outputs per sample "
                f"(shape {tuple(output.shape)}); pass the index of the one to explain"
            )
        return None
    index = _as_index(target, n).to(output.device)
    if index.shape[1] != axes:
        raise ValueError(
            f"target {target} has {index.shape[1]} indices per sample, the output of shape "
            f"{tuple(output.shape)} needs {axes}"
        )
    if index.shape[0] != n:
        raise ValueError(f"given {index.shape[0]} targets for {n} samples")
    size = torch.tensor(output.shape[1:], device=output.device)
    if bool(((index < -size) | (index >= size)).any()):
        raise ValueError(
            f"target out of range: given {target}, the output has shape {tuple(output.shape)}"
        )
    return index % size


def _as_index(target: Any, n: int) -> Tensor:
    if isinstance(target, bool) or not isinstance(target, (numbers.Integral, tuple, list, Tensor)):
        raise TypeError(
            "target must be an int, a tuple, a tensor or a list of ints or tuples, given "
            f"{type(target).__name__}"
        )
    if isinstance(target, Tensor):
        if target.is_floating_point():
            raise TypeError(f"target must hold integers, given a tensor of {target.dtype}")
        if target.numel() == 1:
            return target.reshape(1, 1).expand(n, 1)
        return target.reshape(target.shape[0], -1).long()
    if isinstance(target, numbers.Integral):
        return torch.full((n, 1), int(target))
    if isinstance(target, tuple):
        return torch.tensor([target]).expand(n, -1)
    rows = [entry if isinstance(entry, tuple) else (int(entry),) for entry in target]
    return torch.tensor(rows).reshape(len(rows), -1)


def part_of_target(target: Any, n: int, start: int, stop: int) -> Any:
    """A call's targets for some of its ``n`` samples; forms that hold for all stay as they are."""
    if isinstance(target, list) and len(target) == n:
        return target[start:stop]
    if isinstance(target, Tensor) and target.ndim > 0 and target.shape[0] == n:
        return target[start:stop]
    return target


def select(output: Tensor, index: Tensor | None) -> Tensor:
    """One scalar per row: the target's output, ``(rows,)``, float32.

    ``index`` has N rows, ``output`` a multiple of them, draw by draw.
    """
    rows = output.shape[0]
    if index is None:
        return output.reshape(rows).float()
    repeated = index.repeat(rows // index.shape[0], 1)
    return output[(torch.arange(rows, device=output.device), *repeated.T)].float()


def cross_entropy(output: Tensor, index: Tensor | None) -> Tensor:
    """−log p(target) per row; for one output per sample, minus that output.

    Args:
        output: ``(rows, classes, …)``.
        index: ``(N, k)`` as from :func:`target_index`, or ``None``.
    """
    if index is None or output.shape[1] == 1:
        return -select(output, index)
    return -select(torch.log_softmax(output.float(), dim=1), index)


def cosine(output: Tensor, other: Tensor) -> Tensor:
    """Cosine similarity per row, float32, of unit vectors ``(rows, d)`` and ``(N, d)``.

    ``output`` has a multiple of N rows, draw by draw.
    """
    rows: Tensor = output.float().unflatten(0, (-1, other.shape[0]))
    return (rows * other.float()).sum(dim=-1).flatten()
