"""Needed: behind the last bottleneck, only the positions that the output needs are computed.

The counterpart of replay. One backward pass from the output shows at which positions a module's
result has a gradient: in the last block of a ViT at the class token only. There, modules that work
token by token are run on these positions, gathered before and scattered behind.

That a gradient is 0 proves nothing: of a maximum over tokens most have none, and yet another
activation would need others. So what is left out must not matter whatever stands there, which
three things show that can fail:

- nothing behind the bottlenecks chooses by what depends on them (:mod:`~captum_ib.hooks.follow`),
  so the way from the tokens to the output is the same for every noise;
- with NaN, and with large numbers, in all the places that are left out, the output is that of the
  plain pass. NaN goes through a maximum, a product with 0 and a closed gate;
- each gathered module by itself gives its plain result and gradient, with NaN at the other tokens.

By the chain rule, gradients at the bottlenecks are then the plain ones as well.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._pytree import tree_leaves, tree_map

from captum_ib.hooks.follow import Follower
from captum_ib.hooks.replay import PLAIN, in_place_of
from captum_ib.hooks.undo import Undo, around_modules

LOOKED_AT = 32
"""So many calls of modules, the last ones, are looked at: a block of a transformer has about 20."""

OTHERS = 3
"""So many tokens beside the needed ones, when a module is tried by itself."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass(eq=False)
class _Seen:
    """One call of a module from tokens to tokens, ``(n, T, …)`` to ``(n, T, …)``.

    Attributes:
        parents: the modules whose call it is part of.
        first: arguments and result of the first sample.
        edge: where its gradient arrives.
        needed: ``(n, T)``, where it is not 0; ``None``: no gradient came.
    """

    module: nn.Module
    parents: list[nn.Module]
    first: tuple[Arguments, Tensor]
    edge: GradientEdge
    needed: Tensor | None = None

    def keep(self, gradient: Tensor | None) -> None:
        """Note where there is a gradient."""
        if gradient is not None:
            self.needed = (gradient != 0).any(dim=-1)


class Watch:
    """Watches the recorded pass, and finds out what the output needs of it.

    Args:
        n: samples in the batch.
    """

    def __init__(self, n: int) -> None:
        self.n = n
        self.follower = Follower()
        self._calls: deque[_Seen] = deque(maxlen=LOOKED_AT)
        self._times: Counter[nn.Module] = Counter()
        self._open: list[nn.Module | None] = []  # None: began ahead of the last bottleneck
        self._thread = threading.get_ident()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Watch the pass made inside."""
        with Undo() as undo, self.follower.following():
            around_modules(undo, self._enter, self._leave)
            yield

    def bottleneck(self, passed: Tensor) -> None:
        """A bottleneck stands here: what is ahead of it, or around it, needs all its positions."""
        self._calls.clear()
        self._open = [None] * len(self._open)
        self.follower.start(passed)

    def found(self, output: Tensor, tolerance: float) -> Needed | None:
        """What need not be computed, as far as this pass and the modules themselves show.

        Args:
            output: of the pass, with its graph, which is used up.
            tolerance: how much equal results may differ, relative to the largest.
        """
        if self.follower.choice is not None or not self._calls:
            return None
        draw = torch.Generator().manual_seed(0)
        cotangent = torch.randn(output.shape, generator=draw, dtype=torch.float32)
        edges = [call.edge for call in list(self._calls)[:4]]  # the way there passes the others
        torch.autograd.grad(output, edges, cotangent.to(output), allow_unused=True)
        some = [call for call in self._calls if call.needed is not None and not call.needed.all()]
        if not some:
            return None
        needed = some[-1].needed
        assert needed is not None
        count = int(needed.sum(dim=1).max())
        if not 0 < count <= needed.shape[1] // 2:
            return None
        # The needed ones of each sample, then others where a sample needs fewer.
        index = needed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :count]
        modules: list[nn.Module] = []
        for call in reversed(some):  # the outer ones, which end last, come first
            fits = call.needed is not None and torch.equal(call.needed, needed)
            inside = any(parent in modules for parent in call.parents)
            if fits and not inside and self._pays(call) and _by_token(call, index[:1], tolerance):
                modules.append(call.module)
        return Needed(modules, index, needed.shape[1]) if modules else None

    def _pays(self, call: _Seen) -> bool:
        """Whether it runs once, and multiplies by a matrix: less costs what gathering does."""
        matrix = any(parameter.ndim > 1 for parameter in call.module.parameters())
        return matrix and self._times[call.module] == 1

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == self._thread:
            self._times[module] += 1
            self._open.append(module)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        own = self._open.pop()
        if own is None or not _by_positions(args, kwargs, output, self.n):
            return
        given = tree_map(_first_row, (args, kwargs))
        parents = [parent for parent in self._open if parent is not None]
        call = _Seen(module, parents, (given, _first_row(output)), get_gradient_edge(output))
        output.register_hook(call.keep)
        self._calls.append(call)


def _by_positions(args: Any, kwargs: Any, output: Any, n: int) -> bool:
    """Whether a call takes and gives nothing but the samples' tokens ``(n, T, …)``."""
    if not isinstance(output, Tensor) or output.grad_fn is None or output.ndim != 3:
        return False
    given = tree_leaves((args, kwargs))
    tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
    return (
        output.shape[0] == n
        and output.shape[1] > 1
        and len(tensors) > 0
        and all(isinstance(leaf, PLAIN) for leaf in given)
        and all(each.ndim == 3 and each.shape[:2] == output.shape[:2] for each in tensors)
    )


def _first_row(value: Any) -> Any:
    return value[:1].detach().clone() if isinstance(value, Tensor) else value


def _by_token(call: _Seen, index: Tensor, tolerance: float) -> bool:
    """Whether a module gives on some tokens what it gave on all, whatever the others are."""
    (args, kwargs), expected = call.first
    others = [token for token in range(expected.shape[1]) if token not in index[0].tolist()]
    beside = torch.cat([index, index.new_tensor([others[:OTHERS]])], dim=1)
    wanted = torch.arange(index.shape[1], device=index.device).unsqueeze(0)  # in the latter
    some = tree_map(partial(_picked_of, beside), (args, kwargs))
    draw = torch.Generator().manual_seed(1)
    cotangent = torch.randn(expected.shape, generator=draw).to(expected)[:, : index.shape[1]]

    def passed(run: Callable[..., Any]) -> tuple[Tensor, list[Tensor]]:
        given = tree_map(_leaf, some)
        leaves = [leaf for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]
        values = _picked(run(*given[0], **given[1]), wanted)
        return values.detach(), list(torch.autograd.grad(values, leaves, cotangent))

    try:
        values, gradients = passed(call.module.forward)
        size = beside.shape[1]
        alone = partial(_gathered, call.module.forward, wanted, size, _zeros, None)
        found, own = passed(alone)
        given = tree_map(partial(_poisoned, wanted), some)
        with torch.no_grad():
            whatever = _picked(call.module.forward(*given[0], **given[1]), wanted)
    except (RuntimeError, ValueError, IndexError, TypeError):  # it takes no other number of tokens
        return False
    plain = _picked(expected, index)
    pairs = [(values, plain), (found, plain), (whatever, plain), *zip(own, gradients, strict=True)]
    return all(_same(one, other, tolerance) for one, other in pairs)


def _leaf(value: Any) -> Any:
    return value.clone().requires_grad_() if isinstance(value, Tensor) else value


def _poisoned(kept: Tensor, value: Any) -> Any:
    """Tokens with NaN in all places but those kept."""
    if not isinstance(value, Tensor):
        return value
    return _placed(torch.full_like(value, float("nan")), _picked(value, kept), kept)


def _same(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool((one - other).abs().max().float() <= tolerance * other.abs().max().float())


@dataclass
class Needed:
    """Modules that are run on some of their tokens.

    Attributes:
        modules: they run once in a pass, behind the last bottleneck.
        index: ``(n, k)``, the tokens that the output needs of each sample.
        tokens: how many there are, T.
    """

    modules: list[nn.Module]
    index: Tensor
    tokens: int

    @contextmanager
    def playing(self, repeats: int, check: bool = False) -> Generator[None]:
        """Have the modules compute these tokens, for one pass of ``repeats`` · n rows.

        Args:
            repeats: rows are ordered draw by draw, as in replay.
            check: put NaN and large numbers in the other places, by turns of n rows, in the place
                of zeros.
        """
        index = self.index.repeat(repeats, 1)
        fill = partial(_unlikely, self.index.shape[0]) if check else _zeros
        thread = threading.get_ident()
        with Undo() as undo:
            for module in self.modules:
                stand_in = partial(_gathered, module.forward, index, self.tokens, fill, thread)
                in_place_of(undo, module, stand_in)
            yield


def _gathered(
    run: Callable[..., Any],
    index: Tensor,
    tokens: int,
    fill: Callable[[Tensor], Tensor],
    thread: int | None,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Stands in for a module's ``forward``: on the tokens of ``index``, and put back in place."""
    if thread is not None and threading.get_ident() != thread:
        return run(*args, **kwargs)
    args, kwargs = tree_map(partial(_picked_of, index), (args, kwargs))
    values: Tensor = run(*args, **kwargs)
    return _placed(fill(values.new_empty(len(index), tokens, values.shape[2])), values, index)


def _picked_of(index: Tensor, value: Any) -> Any:
    return _picked(value, index) if isinstance(value, Tensor) else value


def _picked(value: Tensor, index: Tensor) -> Tensor:
    return value.gather(1, index.unsqueeze(-1).expand(-1, -1, value.shape[2]))


def _placed(whole: Tensor, values: Tensor, index: Tensor) -> Tensor:
    return whole.scatter(1, index.unsqueeze(-1).expand(-1, -1, values.shape[2]), values)


def _zeros(whole: Tensor) -> Tensor:
    return whole.zero_()


LARGE = 1e3
"""What stands in unneeded places in the check, above and below 0, beside NaN."""


def _unlikely(n: int, whole: Tensor) -> Tensor:
    """Large numbers of both signs in the first n rows, NaN in the next, and so on."""
    tokens, channels = (torch.arange(size, device=whole.device) for size in whole.shape[1:])
    whole.copy_(LARGE * (1 - 2 * ((tokens.unsqueeze(1) + channels) % 2)))
    for start in range(n, len(whole), 2 * n):
        whole[start : start + n] = float("nan")
    return whole
