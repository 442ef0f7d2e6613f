"""One context manager that reads or replaces several layers' activations, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from captum_ib.hooks.values import locate, locate_input

LayerFunction = Callable[[int, Tensor], Tensor | None]
"""(index of the layer, its activation) → the activation to go on with, or ``None`` to leave it."""


class CompositeHook:
    """Call ``fn(index, activation)`` for each of several layers while the context is open.

    The result goes back to the place the activation came from: a tensor, the first tensor of a
    tuple, a list or a ``ModelOutput``, or a keyword argument. All hooks are removed on leaving,
    however the context is left.

    Args:
        layers: the layers, in the order of their indices.
        fn: see above.
        to_input: hook what goes into the layers instead of what comes out.
        names: the layers' names, for error messages.
        samples_axis: 1 for layers that take the sequence first, ``(T, N, C)``; ``fn`` sees and
            gives ``(N, T, C)`` all the same.

    Raises:
        RuntimeError: on the forward pass, when a layer runs twice between two :meth:`one_pass`,
            or passes no floating-point tensor.

    >>> import torch
    >>> layer = nn.Identity()
    >>> with CompositeHook([layer], lambda index, activation: 2 * activation):
    ...     layer(torch.ones(1))
    tensor([2.])
    >>> layer(torch.ones(1))
    tensor([1.])
    """

    def __init__(
        self,
        layers: Sequence[nn.Module],
        fn: LayerFunction,
        to_input: bool = False,
        names: Sequence[str] | None = None,
        samples_axis: int = 0,
    ) -> None:
        self.samples_axis = samples_axis
        self.layers = list(layers)
        self.fn = fn
        self.to_input = to_input
        self.names = list(names) if names is not None else [_describe(layer) for layer in layers]
        self._calls = [0] * len(self.layers)
        self._handles: list[RemovableHandle] = []

    def __enter__(self) -> CompositeHook:
        self._calls = [0] * len(self.layers)
        try:
            for index, layer in enumerate(self.layers):
                self._handles.append(self._register(index, layer))
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._remove()

    @contextmanager
    def one_pass(self) -> Iterator[None]:
        """Around one forward pass: every layer must run exactly once.

        Raises:
            RuntimeError: naming the layers that did not run.
        """
        self._calls = [0] * len(self.layers)
        yield
        missed = [name for name, calls in zip(self.names, self._calls, strict=True) if calls == 0]
        if missed:
            raise RuntimeError(
                f"layer(s) {', '.join(missed)} did not run in the forward pass; choose layers "
                "that forward_func calls (as modules, not through their .forward)"
            )

    def _remove(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _register(self, index: int, layer: nn.Module) -> RemovableHandle:
        if self.to_input:

            def before(module: nn.Module, args: tuple, kwargs: dict) -> tuple | None:
                return self._apply(index, locate_input(args, kwargs), "input")

            return layer.register_forward_pre_hook(before, with_kwargs=True)

        def after(module: nn.Module, args: tuple, kwargs: dict, output: Any) -> Any:
            return self._apply(index, locate(output), "output")

        return layer.register_forward_hook(after, with_kwargs=True)

    def _apply(self, index: int, found: tuple[Tensor, Callable] | None, side: str) -> Any:
        name = self.names[index]
        self._calls[index] += 1
        if self._calls[index] > 1:
            raise RuntimeError(
                f"layer {name} runs more than once in a forward pass, so one bottleneck can't "
                "stand for it; choose a layer that runs once (for a shared block: a layer "
                "before or after the loop)"
            )
        if found is None:
            raise RuntimeError(
                f"the {side} of layer {name} holds no floating-point tensor to put a bottleneck "
                "on; choose a layer that passes hidden states (for token ids: the embedding's "
                "output)"
            )
        activation, put = found
        new = self.fn(index, activation.transpose(0, self.samples_axis))
        return None if new is None else put(new.transpose(0, self.samples_axis))


def _describe(layer: nn.Module) -> str:
    return type(layer).__name__
