"""One context manager that reads or replaces several layers' activations, and leaves nothing."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_ib.hooks.threads import claim
from captum_ib.hooks.undo import Undo, after_layer, before_layer

Put = Callable[[Tensor], Any]
"""Activation → the whole value with that activation in the place of the old one."""

LayerFunction = Callable[[int, Tensor], Tensor | None]
"""(index of the layer, its activation) → the activation to go on with, or ``None`` to leave it.

The activation is the model's own tensor, which a layer behind may write in place: a function that
keeps it keeps a ``clone``. What it returns the model may write, too; it is given a copy where the
tensor is not the model's to write."""


class CompositeHook:
    """Call ``fn(index, activation)`` for each of several layers while the context is open.

    The result goes back to the place the activation came from: a tensor, the first tensor of a
    tuple, a list or a ``ModelOutput``, or a keyword argument. All hooks are removed on leaving,
    however the context is left. They are blind to other threads, and calls of other threads on
    the layers wait.

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
        self.names = list(names or (type(layer).__name__ for layer in layers))
        self._calls = [0] * len(self.layers)
        self._thread = threading.get_ident()
        self._undo = Undo()

    def __enter__(self) -> CompositeHook:
        self._calls = [0] * len(self.layers)
        self._thread = threading.get_ident()
        self._undo.__enter__()
        try:
            claim(self._undo, self.layers)
            hook_on = before_layer if self.to_input else after_layer
            for index, layer in enumerate(self.layers):
                hook_on(self._undo, layer, partial(self._hook, index))
        except BaseException:
            self._undo.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._undo.__exit__(*exc_info)

    @contextmanager
    def one_pass(self) -> Generator[None]:
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

    def _hook(
        self, index: int, module: nn.Module, args: tuple[Any, ...], kwargs: Any, *output: Any
    ) -> Any:
        """Before a layer, without ``output``: new ``(args, kwargs)``; behind it: a new output."""
        if threading.get_ident() != self._thread:
            return None
        name, side = self.names[index], "input" if self.to_input else "output"
        self._calls[index] += 1
        if self._calls[index] > 1:
            raise RuntimeError(
                f"layer {name} runs more than once in a forward pass, so one bottleneck can't "
                "stand for it; choose a layer that runs once (for a shared block: a layer "
                "before or after the loop)"
            )
        found = locate(output[0]) if output else locate_input(args, kwargs)
        if found is None:
            raise RuntimeError(
                f"the {side} of layer {name} holds no floating-point tensor to put a bottleneck "
                "on; choose a layer that passes hidden states (for token ids: the embedding's "
                "output)"
            )
        activation, put = found
        require_dense(activation, f"the {side} of layer {name}")
        new = self.fn(index, activation.transpose(0, self.samples_axis))
        return None if new is None else put(writable(new).transpose(0, self.samples_axis))


def require_dense(activation: Tensor, said: str) -> None:
    """Check that an activation is a tensor that noise can be added to, sample by sample.

    Raises:
        RuntimeError: a nested tensor, or one of ``torch.vmap``.
    """
    if activation.is_nested:
        raise RuntimeError(
            f"{said} is a nested tensor, which has no place for each token; choose a layer before "
            "the tensors are nested, or pad them: torch.nested.to_padded_tensor"
        )
    # torch says it nowhere publicly.
    functorch: Any = torch._C._functorch  # pyright: ignore
    if functorch.is_functorch_wrapped_tensor(activation):  # pyright: ignore
        raise RuntimeError(
            f"{said} is one sample inside torch.vmap or another transform of torch.func, where no "
            "bottleneck can stand; run the model on the whole batch"
        )


def writable(value: Tensor) -> Tensor:
    """The tensor, or a copy where layers behind could not write it in place, or should not.

    Not writable are leaves (a caller's own tensor, or one that gradients are taken to), views of
    them, and expanded tensors, of which several elements are one.
    """
    base = value._base  # pyright: ignore[reportPrivateUsage]: torch names it nowhere else
    owner = value if base is None else base
    expanded = any(
        stride == 0 and size > 1 for stride, size in zip(value.stride(), value.shape, strict=True)
    )
    return value.clone() if owner.is_leaf or expanded else value


def locate(value: Any) -> tuple[Tensor, Put] | None:
    """The first activation in a layer's output, and how to replace it.

    A tensor is itself; of a tuple, a list or a mapping (transformers' ``ModelOutput`` is one) it
    is the first floating-point tensor. ``None`` when there is none.

    >>> import torch
    >>> tensor, put = locate((torch.zeros(2), None))
    >>> put(torch.ones(2))
    (tensor([1., 1.]), None)
    """
    if isinstance(value, Mapping):
        entries = list(cast(Mapping[Any, Any], value).items())
    elif isinstance(value, (tuple, list)):
        entries = list(enumerate(cast(tuple[Any, ...], value)))
    else:
        entries = [(None, value)]
    for key, entry in entries:
        if isinstance(entry, Tensor) and entry.is_floating_point() and entry.ndim > 0:
            return entry, partial(_replaced, value, key)
    return None


def _replaced(value: Any, key: Any, new: Tensor) -> Any:
    """A mapping, tuple or list with another entry under that key; in place of a tensor another."""
    if isinstance(value, Tensor):
        return new
    if isinstance(value, Mapping):
        changed: Any = copy.copy(cast(Any, value))
        changed[key] = new
        return changed
    entries = [*value[:key], new, *value[key + 1 :]]
    if hasattr(value, "_fields"):  # a namedtuple takes its entries one by one
        return type(value)(*entries)
    return type(value)(entries)


def locate_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, Put] | None:
    """The activation among a layer's arguments: the first positional one, else ``hidden_states``,
    else the first keyword one. The second part gives the new ``(args, kwargs)``."""
    found = locate(args)
    if found is not None:
        tensor, put = found
        return tensor, lambda new: (put(new), kwargs)
    first = {key: kwargs[key] for key in ("hidden_states",) if key in kwargs}
    found = locate({**first, **kwargs})
    if found is None:
        return None
    tensor, put_named = found
    return tensor, lambda new: (args, put_named(new))
