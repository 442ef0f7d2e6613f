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

# torch types neither trees nor what they hold.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportPrivateUsage=false

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.utils._pytree import tree_leaves

from captum_ib.hooks.follow import Follower
from captum_ib.hooks.gather import Arguments, by_token, each, gathered
from captum_ib.hooks.replay import PLAIN, in_place_of
from captum_ib.hooks.undo import Undo, around_modules

LOOKED_AT = 32
"""So many calls of modules, the last ones, are looked at: a block of a transformer has about 20."""

LARGE = 1e3
"""What stands in unneeded places in the check, above and below 0, beside NaN."""


@dataclass(eq=False)
class _Seen:
    """One call of a module from tokens to tokens, ``(n, T, …)`` to ``(n, T, …)``.

    Attributes:
        module: the module.
        parents: the modules whose call it is part of.
        first: arguments and result of the first sample; ``None``: not worth gathering for.
        edge: where its gradient arrives.
        arrived: where that is not 0, ``(n, T)``, once it has.
    """

    module: nn.Module
    parents: list[nn.Module]
    first: tuple[Arguments, Tensor] | None
    edge: GradientEdge
    arrived: list[Tensor] = field(default_factory=list[Tensor])

    @property
    def needed(self) -> Tensor | None:
        """The tokens that the output needs; ``None``: all, or nothing is known."""
        found = self.arrived[0] if self.arrived else None
        return None if found is None or bool(found.all()) else found

    def fits(self, needed: Tensor, tolerance: float) -> bool:
        """Whether it may be run on the tokens needed, as it says by itself."""
        if self.first is None or self.needed is None or not torch.equal(self.needed, needed):
            return False
        return by_token(self.module.forward, *self.first, _index(needed)[:1], tolerance)


def _index(needed: Tensor) -> Tensor:
    """Which tokens these are, ``(n, k)``; behind them others, where a sample needs fewer."""
    order = needed.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    return order[:, : int(needed.sum(dim=1).max())]


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
        """A bottleneck stands here: of what is ahead of it, or around it, all is needed."""
        self._calls.clear()
        self._open = [None] * len(self._open)
        self.follower.start(passed)

    def found(self, output: Tensor, tolerance: float) -> Needed | str:
        """What need not be computed, as far as this pass and the modules themselves show.

        Args:
            output: of the pass, with its graph, which is used up.
            tolerance: how much equal results may differ, relative to the largest.

        Returns:
            In words why everything is computed, where it is.
        """
        if self.follower.choice is not None:
            return self.follower.choice
        if not self._calls:
            return "no module behind the layers goes from tokens to tokens"
        draw = torch.Generator().manual_seed(0)
        cotangent = torch.randn(output.shape, generator=draw, dtype=torch.float32)
        edges = [call.edge for call in list(self._calls)[:4]]  # the way there passes the others
        try:
            torch.autograd.grad(output, edges, cotangent.to(output), allow_unused=True)
        except RuntimeError as error:
            return f"no gradient from the output: {error}"
        # Behind the last place where tokens mix, all calls need what the last one does.
        every = [call.needed for call in self._calls]
        last = next((needed for needed in reversed(every) if needed is not None), None)
        if last is None or not 0 < int(last.sum(dim=1).max()) <= last.shape[1] // 2:
            return "the output needs most tokens"
        modules: list[nn.Module] = []
        for call in reversed(self._calls):  # the outer ones, which end last, come first
            inside = any(parent in modules for parent in call.parents)
            if not inside and self._times[call.module] == 1 and call.fits(last, tolerance):
                modules.append(call.module)
        if not modules:
            return "no module behind the layers runs token by token on what the output needs"
        return Needed(modules, _index(last), last.shape[1])

    def _enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == self._thread:
            self._times[module] += 1
            self._open.append(module)

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if threading.get_ident() != self._thread:
            return
        own = self._open.pop()
        if own is None or not _by_positions((args, kwargs), output, self.n):
            return
        first = None
        # Without a matrix to multiply by, a module costs no more than gathering does.
        if any(parameter.ndim > 1 for parameter in module.parameters()):
            with torch._C.DisableTorchFunction():  # no part of the pass
                first = (each(_first_row, (args, kwargs)), _first_row(output))
        parents = [parent for parent in self._open if parent is not None]
        call = _Seen(module, parents, first, get_gradient_edge(output))
        # Not a method of the call's, which holds the graph: they would keep each other.
        output.register_hook(partial(_note, call.arrived))
        self._calls.append(call)


def _note(arrived: list[Tensor], gradient: Tensor | None) -> None:
    if gradient is not None:
        arrived.append((gradient != 0).any(dim=-1))


def _by_positions(arguments: Arguments, output: Any, n: int) -> bool:
    """Whether a call takes and gives nothing but the samples' tokens ``(n, T, …)``."""
    plain = isinstance(output, Tensor) and not output.is_nested  # which has no sizes to go by
    if not plain or output.grad_fn is None or output.ndim != 3:
        return False
    given = tree_leaves(arguments)
    tensors = [leaf for leaf in given if isinstance(leaf, Tensor)]
    return (
        output.shape[0] == n
        and output.shape[1] > 1
        and len(tensors) > 0
        and all(isinstance(leaf, PLAIN) for leaf in given)
        and not any(tensor.is_nested for tensor in tensors)
        and all(leaf.ndim == 3 and leaf.shape[:2] == output.shape[:2] for leaf in tensors)
    )


def _first_row(value: Tensor) -> Tensor:
    return value[:1].detach().clone()


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
            check: put large numbers and NaN in the other places, by turns of n rows, and not 0.
        """
        index = self.index.repeat(repeats, 1)
        fill = partial(_unlikely, len(self.index)) if check else Tensor.zero_
        thread = threading.get_ident()
        with Undo() as undo:
            for module in self.modules:
                stand_in = partial(gathered, module.forward, index, self.tokens, fill, thread)
                in_place_of(undo, module, stand_in)
            yield


def _unlikely(n: int, whole: Tensor) -> Tensor:
    """Large numbers of both signs in the first n rows, NaN in the next, and so on."""
    tokens, channels = (torch.arange(size, device=whole.device) for size in whole.shape[1:])
    whole.copy_(LARGE * (1 - 2 * ((tokens.unsqueeze(1) + channels) % 2)))
    for start in range(n, len(whole), 2 * n):
        whole[start : start + n] = float("nan")
    return whole
