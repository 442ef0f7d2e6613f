"""Layer-wise relevance propagation, α = 1, as the backward pass of an unchanged model.

While :class:`RelevanceMode` is open, every operation computes what it always does, but its
backward hands on relevance instead of gradients, by the rules of Chefer et al. (CVPR 2021):
linear maps by z⁺ (eq. 3–4), products of two activations and sums by their shares, sums with the
normalisation of eq. 5–6, everything elementwise unchanged. The model's own forward code runs, so
any transformer made of these operations is covered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ib.baselines._recorder import MATMUL, SOFTMAX, AttentionRecorder, is_map

EPSILON = 1e-9

ADD = (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__, Tensor.add_, Tensor.__iadd__)
MEAN = (torch.mean, Tensor.mean)
SCALE = (
    *(torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__, Tensor.mul_, Tensor.__imul__),
    *(torch.div, Tensor.div, Tensor.__truediv__, Tensor.div_, Tensor.__itruediv__),
)
UNCHANGED = (
    *(F.layer_norm, torch.layer_norm, F.rms_norm, torch.rms_norm),
    *(F.gelu, F.relu, F.silu, F.mish, F.elu, F.leaky_relu, F.relu6, F.hardswish, F.softplus),
    *(torch.relu, Tensor.relu, Tensor.relu_, torch.tanh, Tensor.tanh, F.tanh),
    *(F.dropout, torch.dropout, *SOFTMAX),
)
"""Elementwise or normalising: they hand relevance on as it is."""

REARRANGE = frozenset(
    "reshape view flatten unflatten permute transpose swapaxes movedim __getitem__ unbind chunk "
    "split tensor_split expand contiguous cat squeeze unsqueeze to float half bfloat16 double type "
    "type_as clone view_as expand_as reshape_as narrow select index_select gather t __get__ "
    "requires_grad_ detach".split()
)
"""Operations that only move values: autograd's own backward moves relevance the same way."""


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient, 0 where the denominator is; ε keeps tiny denominators from exploding."""
    return numerator / (denominator + EPSILON) * (denominator != 0)


class _Unchanged(torch.autograd.Function):
    """(x, f(x)) → f(x); relevance passes to x as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, result: Tensor) -> Tensor:
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor, None]:
        return relevance[0], None


class _Linear(torch.autograd.Function):
    """x Wᵀ + b; R_i = Σ_j (x_i w_ji)⁺ / Σ_i' (x_i' w_ji')⁺ R_j (eq. 3–4 with α = 1, bias apart)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor, None, None]:
        x, weight = (_wide(value) for value in ctx.saved_tensors)
        x_up, x_down = x.clamp_min(0), x.clamp_max(0)
        w_up, w_down = weight.clamp_min(0), weight.clamp_max(0)
        share = safe_divide(_wide(relevance[0]), F.linear(x_up, w_up) + F.linear(x_down, w_down))
        return x_up * (share @ w_up) + x_down * (share @ w_down), None, None


class _Matmul(torch.autograd.Function):
    """a b; each factor gets its share of R, halved, as both are activations (eq. 5, products)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor, Tensor]:
        a, b = (_wide(value) for value in ctx.saved_tensors)
        share = safe_divide(_wide(relevance[0]), a @ b)
        return a * (share @ b.transpose(-2, -1)) / 2, b * (a.transpose(-2, -1) @ share) / 2


class _Add(torch.autograd.Function):
    """a + b; shares by value, then normalised by the absolute sums of each sample (eq. 6)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor, Tensor]:
        received = _wide(relevance[0])
        a, b = (_wide(value).expand_as(received) for value in ctx.saved_tensors)
        share = safe_divide(received, a + b)
        parts = (a * share, b * share)
        sums = [_per_sample_sum(part) for part in parts]
        size = sums[0].abs() + sums[1].abs()
        total = _per_sample_sum(received)
        normalised = [
            part * safe_divide(safe_divide(own.abs(), size) * total, own)
            for part, own in zip(parts, sums, strict=True)
        ]
        shapes = (value.shape for value in ctx.saved_tensors)
        one, other = (
            value.sum_to_size(shape) for value, shape in zip(normalised, shapes, strict=True)
        )
        return one, other


class _Mean(torch.autograd.Function):
    """The mean over some axes; every position gets its share."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, result: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(x, kept)
        ctx.count = x.numel() / kept.numel()
        return result.view_as(result)

    @staticmethod
    def backward(ctx: Any, *relevance: Tensor) -> tuple[Tensor, None, None]:
        x, kept = (_wide(value) for value in ctx.saved_tensors)
        share = safe_divide(_wide(relevance[0]).reshape(kept.shape), kept)
        return x * share / ctx.count, None, None


def _wide(value: Tensor) -> Tensor:
    """At least single precision: shares are quotients."""
    return value if value.dtype == torch.float64 else value.float()


def _per_sample_sum(value: Tensor) -> Tensor:
    return value.sum(dim=tuple(range(1, value.ndim)), keepdim=True)


class RelevanceMode(AttentionRecorder):
    """An :class:`~captum_ib.baselines._recorder.AttentionRecorder` whose graph carries relevance.

    The gradient of an output with respect to the recorded probabilities is their relevance.
    Tracking starts at the first self-attention; what comes before it needs no rule.

    Raises:
        RuntimeError: on the forward pass, for an operation without a rule.
    """

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """See the base class; the backward of what depends on an attention is its rule."""
        tracked = [a for a in (*args, *kwargs.values()) if _tracked(a)]
        return self._ruled(func, args, kwargs, tracked) if tracked else func(*args, **kwargs)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """See the base class."""
        return _Linear.apply(x, weight, bias)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """See the base class."""
        return _Matmul.apply(a, b)

    def unchanged(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """See the base class."""
        return _Unchanged.apply(x, function(x.detach()))

    def _ruled(self, func: Any, args: tuple[Any, ...], kwargs: dict, tracked: list) -> Any:
        """The result of an operation on tracked tensors, with the backward of its rule."""
        if func is F.linear:
            return _Linear.apply(*args, *([None] if len(args) + len(kwargs) < 3 else []), **kwargs)
        if func in MATMUL:
            return _Matmul.apply(*args)
        if func in ADD and len(args) == 2 and not kwargs:
            result = func(*(_detached(a) for a in args))
            if all(isinstance(a, Tensor) for a in args) and not is_map(result):
                return _Add.apply(*args)
            return _Unchanged.apply(tracked[0], result)  # a number, or a mask on the scores
        if func in MEAN and (len(args) > 1 or "dim" in kwargs):
            x, *axes = list(args)
            kept = func(x.detach(), *axes[:1], **{**kwargs, "keepdim": True})
            return _Mean.apply(x, func(x.detach(), *axes, **kwargs), kept)
        if func in UNCHANGED or (func in SCALE and len(tracked) == 1):
            result = func(*(_detached(a) for a in args), **kwargs)
            return _Unchanged.apply(tracked[0], result)
        result = func(*args, **kwargs)
        if getattr(func, "__name__", "") not in REARRANGE and _any_tracked(result):
            raise RuntimeError(
                f"there is no relevance rule for {getattr(func, '__name__', func)}; "
                "TransformerAttribution covers encoders made of linear layers, normalisation, "
                "softmax attention, elementwise activations and residual sums (timm ViT and DeiT, "
                "transformers ViT and BERT); for other models use GenericAttention"
            )
        return result


def _tracked(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _any_tracked(value: Any) -> bool:
    return any(map(_tracked, value)) if isinstance(value, (tuple, list)) else _tracked(value)


def _detached(value: Any) -> Any:
    # A copy: the operation may work in place.
    return value.detach().clone() if _tracked(value) else value
