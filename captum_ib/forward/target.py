"""Targets in all of Captum's forms, and the one value per row that they name."""

# What a model returns, and Captum's targets, have many forms.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_ib.forward.output import are_probabilities

Target = int | tuple[int, ...] | Tensor | Sequence[int] | Sequence[tuple[int, ...]] | None

Objective = Callable[[Tensor, Tensor | None], Tensor]
"""(output ``(rows, …)``, target ``(N, k)`` or ``None``) → what to minimise, ``(rows,)``, nats."""


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
            f"{tuple(output.shape)} needs {axes}: " + (_TUPLE if axes else "pass target=None")
        )
    if index.shape[0] != n:
        raise ValueError(f"given {index.shape[0]} targets for {n} samples")
    size = torch.tensor(output.shape[1:], device=output.device)
    if bool(((index < -size) | (index >= size)).any()):
        raise ValueError(
            f"target out of range: given {target}, the output has shape {tuple(output.shape)}"
        )
    return index % size


_TUPLE = (
    "pass a tuple with one for each axis behind the samples', as (class, row, column), or a "
    "forward_func that returns (N, classes)"
)


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
        return _as_index([target], n).expand(n, -1)
    rows = [entry if isinstance(entry, tuple) else (entry,) for entry in target]
    if not rows or len({len(row) for row in rows}) > 1 or not all(map(_is_whole, sum(rows, ()))):
        raise TypeError(
            f"target must be a list of ints, or of tuples of as many ints each, given {target}"
        )
    return torch.tensor([[int(value) for value in row] for row in rows])


def _is_whole(value: object) -> bool:
    """Whether it is an int, or a tensor that holds one."""
    if isinstance(value, Tensor):
        return value.numel() == 1 and not value.is_floating_point()
    return isinstance(value, int | numbers.Integral) and not isinstance(value, bool)


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
    """−log p(target) per row, in nats; for one output per sample, minus that output.

    A head with one logit is taken at its word: the objective is minus the logit (target ``None``
    or 0), not the logarithm of its sigmoid. Of outputs that are probabilities p is taken as it is.

    Args:
        output: ``(rows, classes)``, or ``(rows,)``. Outputs with more axes need
            :func:`cross_entropy_at`; methods take it themselves for token classifiers, language
            models and semantic segmentation of transformers.
        index: ``(N, k)`` as from :func:`target_index`, or ``None``.

    Raises:
        ValueError: an output whose class axis can't be told.
    """
    if index is not None and output.ndim > 2:
        sizes = ", ".join(map(str, output.shape[1:]))  # the rows may be draws of the samples
        raise ValueError(
            f"along which axis of the output of shape (N, {sizes}) the classes lie can't be told; "
            "pass objective=captum_ib.forward.cross_entropy_at(-1) for outputs (N, tokens, "
            "classes), cross_entropy_at(1) for (N, classes, height, width)"
        )
    return _cross_entropy(output, index, 1)


def cross_entropy_at(axis: int) -> Objective:
    """Cross-entropy whose classes lie along an axis: an ``objective`` of IBA and CoIBA.

    Args:
        axis: of the output, whose axis 0 are the samples: −1 for ``(N, tokens, classes)``, 1 for
            ``(N, classes, height, width)`` and for ``(N, classes)``.

    Returns:
        (output, target index) → −log p(target) per row, in nats, ``(rows,)``.

    Raises:
        TypeError: an axis that is no int.
        ValueError: the samples' axis; later, one that the output does not have.

    >>> output, index = torch.zeros(1, 3, 2), torch.tensor([[0, 1]])  # token 0, class 1 of 2
    >>> round(float(cross_entropy_at(-1)(output, index)), 4)
    0.6931
    """
    if isinstance(axis, bool) or not isinstance(cast(object, axis), int):
        raise TypeError(f"axis must be an int, given {type(axis).__name__}")
    if axis == 0:
        raise ValueError("axis 0 holds the samples, so the classes can't lie along it")
    return partial(_cross_entropy, axis=axis)


def binary_cross_entropy(output: Tensor, index: Tensor | None) -> Tensor:
    """−log σ(z) of the target's logit z per row, in nats: heads whose classes don't exclude others.

    IBA and CoIBA take it themselves where the model's configuration says
    ``problem_type="multi_label_classification"``; for other such heads pass it as ``objective``.

    Args:
        output: logits ``(rows, …)``.
        index: ``(N, k)`` as from :func:`target_index`; ``None``: of one output per sample.

    >>> round(float(binary_cross_entropy(torch.tensor([[0.0, 9.0]]), torch.tensor([[0]]))), 4)
    0.6931
    """
    return -nn.functional.logsigmoid(select(output, index))


def log_loss(output: Tensor, index: Tensor | None) -> Tensor:
    """−log p of the target's probability p per row, in nats: outputs behind a sigmoid."""
    return -select(output.float().clamp_min(torch.finfo(torch.float32).tiny).log(), index)


def _cross_entropy(output: Tensor, index: Tensor | None, axis: int) -> Tensor:
    if index is None:
        return -select(output, index)
    if axis >= output.ndim or axis <= -output.ndim:
        raise ValueError(
            f"the classes can't lie along axis {axis} of an output of shape {tuple(output.shape)}"
        )
    if output.shape[axis] == 1:
        return -select(output, index)
    values = output.float()
    if are_probabilities(output, axis):  # a softmax of them would be another, flat distribution
        return log_loss(values, index)
    return -select(torch.log_softmax(values, dim=axis), index)


def cosine(output: Tensor, other: Tensor) -> Tensor:
    """Cosine similarity per row, float32, of unit vectors ``(rows, d)`` and ``(N, d)``.

    ``output`` has a multiple of N rows, draw by draw.
    """
    rows: Tensor = output.float().unflatten(0, (-1, other.shape[0]))
    return (rows * other.float()).sum(dim=-1).flatten()
