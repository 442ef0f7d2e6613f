"""Follows what depends on the bottlenecks through one pass, also where no gradient goes.

A gradient says nothing of an index, a mask or a branch that was computed from an activation, nor
of what another activation would have made of it. Here every operation is seen that is given what
depends on a bottleneck, whatever it makes of it.
"""

# torch types neither its operations nor what they are given, and has no public list of its modes.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false, reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode_stack

from captum_ib.hooks.undo import Undo

KNOWN = ("aten", "prim", "prims")
"""Namespaces whose operations are torch's own; what others choose can't be told."""

READS = ("tolist", "numpy", "__array__")
"""Ways out of torch that are no operation."""


class Follower(TorchDispatchMode):
    """Sees whether a pass chooses anything by what depends on the bottlenecks.

    Attributes:
        choice: what was chosen so (an index, a mask, a branch), in words; ``None``: nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.choice: str | None = None
        # By storage, since views and what is written in place are other tensors. Weakly: the
        # memory goes as it would, and no address comes back while its reference is kept.
        self._storages: dict[int, StorageWeakRef] = {}
        self._entered = False

    @contextmanager
    def following(self) -> Generator[None]:
        """Follow operations of this thread, from the first :meth:`start` on."""
        with Undo() as undo, _Reads(self):
            undo.note(self._leave)
            yield

    def _leave(self) -> None:
        if self in _get_current_dispatch_mode_stack():
            self.__exit__(None, None, None)

    def start(self, tensor: Tensor) -> None:
        """Follow this tensor from here on."""
        if not self._entered:  # not earlier: every operation costs some time then
            self._entered = True
            self.__enter__()
        self._add(tensor)

    def _add(self, tensor: Tensor) -> None:
        try:
            reference = StorageWeakRef(tensor.untyped_storage())
        except (NotImplementedError, RuntimeError):
            self.choice = f"{tensor.layout} tensors can't be followed"
            return
        self._storages[reference.cdata] = reference

    def depends(self, value: object) -> bool:
        """Whether this is a tensor that depends on a bottleneck."""
        if not isinstance(value, Tensor):
            return False
        try:
            return value.untyped_storage()._cdata in self._storages  # pyright: ignore
        except (NotImplementedError, RuntimeError):  # it has none, as sparse ones: said already
            return True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation, and look at what goes in and comes out."""
        result = func(*args, **(kwargs or {}))
        if self.choice is None:
            given = [one for one in _tensors(args) if self.depends(one)]
            given += [one for one in _tensors((kwargs or {}).values()) if self.depends(one)]
            if given and not _only_shape(func):
                self._look(func, given, result)
        return result

    def _look(self, func: Any, given: list[Tensor], result: Any) -> None:
        name = str(func)
        made = list(_tensors((result,)))
        if func.namespace not in KNOWN or "grid_sampler" in name:
            self.choice = f"{name} may choose by it"
        elif any(not tensor.is_floating_point() for tensor in given):
            self.choice = f"{name} chooses by it"
        elif not made and result is not None:
            self.choice = f"{name} reads it, which may decide a branch"
        for tensor in made:
            self._add(tensor)


class _Reads(TorchFunctionMode):
    """Sees values that leave torch as plain numbers."""

    def __init__(self, follower: Follower) -> None:
        super().__init__()
        self.follower = follower

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if getattr(func, "__name__", "") in READS and any(map(self.follower.depends, args)):
            self.follower.choice = f"Tensor.{func.__name__} reads it, which may decide a branch"
        return func(*args, **(kwargs or {}))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Tensors among what an operation takes or gives: as they are, or in lists."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _tensors(value)


@cache
def _only_shape(func: Any) -> bool:
    """Whether an operation looks at the size of what it is given only."""
    name = func._schema.name
    return name.endswith("_like") or name.startswith("aten::new_")
