"""Running a module on some of its tokens, and the trial whether it may be."""

# torch types neither trees nor what they hold.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

OTHERS = 3
"""So many tokens beside the needed ones, when a module is tried by itself."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


def picked(value: Tensor, index: Tensor) -> Tensor:
    """The tokens ``index`` (``(rows, k)``) of each row of ``(rows, T, C)``."""
    return value.gather(1, index.unsqueeze(-1).expand(-1, -1, value.shape[2]))


def placed(whole: Tensor, values: Tensor, index: Tensor) -> Tensor:
    """``whole`` with tokens put back where :func:`picked` took them from."""
    return whole.scatter(1, index.unsqueeze(-1).expand(-1, -1, values.shape[2]), values)


def gathered(
    run: Callable[..., Any],
    index: Tensor,
    tokens: int,
    fill: Callable[[Tensor], Tensor],
    thread: int,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Stands in for a module's ``forward``: runs on the tokens of ``index`` only.

    Args:
        run: the module's ``forward``.
        index: ``(rows, k)``.
        tokens: how many there are, T.
        fill: what stands in the other places of the result; it may write what it is given.
        thread: calls of other threads run as they are.
        args, kwargs: the module's.
    """
    if threading.get_ident() != thread:
        return run(*args, **kwargs)
    args, kwargs = each(partial(picked, index=index), (args, kwargs))
    values: Tensor = run(*args, **kwargs)
    return placed(fill(values.new_empty(len(index), tokens, values.shape[2])), values, index)


def by_token(
    forward: Callable[..., Any],
    arguments: Arguments,
    result: Tensor,
    index: Tensor,
    tolerance: float,
) -> bool:
    """Whether a module gives on some tokens what it gave on all, whatever the others are.

    Its values, its gradient beside other tokens, and its values beside NaN.

    Args:
        forward: the module's.
        arguments, result: of one sample, ``(1, T, …)``.
        index: ``(1, k)``.
        tolerance: how much equal results may differ, relative to the largest.
    """
    count = index.shape[1]
    others = [token for token in range(result.shape[1]) if token not in index[0].tolist()]
    beside = torch.cat([index, index.new_tensor([others[:OTHERS]])], dim=1)
    own = torch.arange(count, device=index.device).unsqueeze(0)  # where they stand in the latter
    some = each(partial(picked, index=beside), arguments)
    draw = torch.Generator().manual_seed(1)
    cotangent = torch.randn((1, count, result.shape[2]), generator=draw).to(result)

    def passed(run: Callable[..., Any]) -> tuple[Tensor, list[Tensor]]:
        args, kwargs = each(lambda leaf: leaf.clone().requires_grad_(), some)
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        values = picked(run(*args, **kwargs), own)
        return values.detach(), list(torch.autograd.grad(values, leaves, cotangent))

    alone = partial(gathered, forward, own, beside.shape[1], Tensor.zero_, threading.get_ident())
    try:
        (values, plain), (found, gradients) = passed(forward), passed(alone)
        args, kwargs = each(partial(_beside_nan, own), some)
        with torch.no_grad():
            whatever = picked(forward(*args, **kwargs), own)
    except (RuntimeError, ValueError, IndexError, TypeError):  # it takes no other number of tokens
        return False
    expected = picked(result, index)
    pairs = [(one, expected) for one in (values, found, whatever)]
    return all(
        _same(one, other, tolerance) for one, other in [*pairs, *zip(gradients, plain, strict=True)]
    )


def each(function: Callable[[Tensor], Tensor], arguments: Arguments) -> Arguments:
    """Arguments with another tensor in the place of each."""

    def changed(leaf: object) -> object:
        return function(leaf) if isinstance(leaf, Tensor) else leaf

    return tree_map(changed, arguments)


def _beside_nan(kept: Tensor, value: Tensor) -> Tensor:
    return placed(torch.full_like(value, float("nan")), picked(value, kept), kept)


def _same(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool((one - other).abs().max().float() <= tolerance * other.abs().max().float())
