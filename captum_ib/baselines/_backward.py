"""Other backward passes of an unchanged model: what LibraGrad and AttnLRP have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ib.baselines._recorder import SOFTMAX, AttentionRecorder

NORMS = (F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm)
SIGMOID = (torch.sigmoid, Tensor.sigmoid, F.sigmoid)
MULTIPLY = (torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__)
RSQRT = (torch.rsqrt, Tensor.rsqrt)
GATED = (F.gelu, F.silu, F.mish, F.hardswish)
"""x·φ(x): the value times a gate that depends on it."""

_ON_THE_WAY = ("Mul", "Div", "Add", "Sub", "MaskedFill", "Where", "ToCopy", "View", "UnsafeView",
               "Reshape", "Clone", "Expand", "Alias", "Slice")  # fmt: skip
"""What attention scores go through between the product of queries and keys and the softmax."""


class _Substitute(torch.autograd.Function):
    """(surrogate, exact) → exact, whose gradient goes to the surrogate."""

    @staticmethod
    def forward(ctx: Any, surrogate: Tensor, exact: Tensor) -> Tensor:
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, *gradient: Tensor) -> tuple[Tensor, None]:
        return gradient[0], None


def with_gradient_of(surrogate: Tensor, exact: Tensor) -> Tensor:
    """The exact value, with the derivative of a surrogate that equals it up to rounding."""
    return _Substitute.apply(surrogate.to(exact.dtype), exact.detach())


class BackwardMode(AttentionRecorder):
    """While open, operations compute what they always do, and hand back other gradients.

    - layer norm: the variance is a constant, the mean is not: (x − E[x]) / sg(√(Var[x] + ε));
      RMS norm likewise;
    - x·φ(x) (GELU, SiLU, QuickGELU): the gate φ(x) is a constant;
    - attention, where :attr:`constant_attention`: probabilities are constants, so no gradient
      reaches queries and keys.

    It sees the functions that a model calls, as the base class does; nothing in the model changes.

    Attributes:
        seen: operations that could be followed, whatever they were.
        corrected: those whose gradient was another one.
    """

    gates: tuple[Any, ...] = GATED
    constant_attention = True

    def __init__(self, rows: int | None = None) -> None:
        super().__init__(rows=rows)
        self.seen = self.corrected = 0
        self._sigmoid: Tensor | None = None

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See the base class; with the corrections."""
        if not torch.is_grad_enabled():
            return func(*args, **kwargs)
        tracked = bool(args) and isinstance(args[0], Tensor) and args[0].requires_grad
        self.seen += tracked
        if tracked and func in NORMS:
            return self.normalised(func, *args, **kwargs)
        if tracked and func in self.gates:
            return self.gated(func, *args, **kwargs)
        if func in RSQRT:  # of a normalisation that the model writes out
            return self._count(func(*args, **kwargs).detach())
        if func in SIGMOID:
            self._sigmoid = func(*args, **kwargs)
            return self._sigmoid
        if func in MULTIPLY and self._sigmoid is not None:
            args = tuple(self._count(a.detach()) if a is self._sigmoid else a for a in args)
        if tracked and func in SOFTMAX and self.constant_attention and _are_scores(args[0]):
            return self._count(func(args[0].detach(), *args[1:], **kwargs))
        return super().compute(func, args, kwargs)

    def normalised(self, func: Any, x: Tensor, shape: Any, *rest: Any, **kwargs: Any) -> Tensor:
        """A normalisation over the last axes, its spread a constant."""
        with torch.no_grad():
            exact = func(x, shape, *rest, **kwargs)
        names = ("weight", "eps") if "rms" in func.__name__ else ("weight", "bias", "eps")
        given = {**dict(zip(names, rest, strict=False)), **kwargs}
        axes = tuple(range(-len(shape), 0))
        wide = x if x.dtype == torch.float64 else x.float()
        if "bias" in names:
            wide = wide - wide.mean(axes, keepdim=True)
        eps = given.get("eps", 1e-5)
        eps = torch.finfo(x.dtype).eps if eps is None else eps
        spread = (wide.detach().square().mean(axes, keepdim=True) + eps).sqrt()
        surrogate = wide / spread
        if given.get("weight") is not None:
            surrogate = surrogate * given["weight"]
        return self._count(with_gradient_of(surrogate, exact))

    def gated(self, func: Any, x: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        """f(x) = x·φ(x), with φ(x) = f(x) / x a constant; at x = 0 it does not matter."""
        with torch.no_grad():
            exact = func(x.clone(), *rest, **kwargs)  # it may write in place
            wide = x if x.dtype == torch.float64 else x.float()
            gate = torch.where(wide == 0, 0.5, exact / torch.where(wide == 0, 1.0, wide))
        return self._count(with_gradient_of(x * gate, exact))

    def _count(self, value: Any) -> Any:
        self.corrected += 1
        return value

    def _seen(self, result: Tensor, values: Tensor | None = None) -> Tensor:
        return result  # nothing is recorded

    def _fused(self, query: Tensor, key: Tensor, *rest: Any, **kwargs: Any) -> Tensor:
        self._count(None)
        return F.scaled_dot_product_attention(query.detach(), key.detach(), *rest, **kwargs)

    def _multi_head(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        # Never opened here: with other tensors for queries and keys the function projects the
        # values apart. A pooling head's attention comes here, too.
        given = {**dict(zip(("query", "key"), args, strict=False)), **kwargs}
        kept = {name: value for name, value in kwargs.items() if name not in ("query", "key")}
        self._count(None)
        return F.multi_head_attention_forward(
            given["query"].detach(), given["key"].detach(), *args[2:], **kept
        )


def _are_scores(x: Tensor) -> bool:
    """Whether these are scores of attention: a batched product, scaled and masked at most."""
    node = x.grad_fn
    for _ in range(12):
        if node is None:
            return False
        name = node.name().removesuffix("Backward0").removeprefix("_")
        if name in ("Bmm", "Baddbmm"):
            return True
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if name not in _ON_THE_WAY or not parents:
            return False
        node = parents[0]
    return False
