"""Attention probabilities of a forward pass, whatever attention implementation the model uses.

A function mode sees the calls that a model makes: fused attention is computed openly instead, the
softmax of an open implementation is recorded where it is. Nothing in the model is switched, so
there is nothing to restore; transformers' ``sdpa`` and ``eager``, timm's ``fused_attn``, open_clip
and ``nn.MultiheadAttention`` all pass through here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from captum_ib.hooks.undo import Undo, keep_modes

SOFTMAX = (F.softmax, torch.softmax, Tensor.softmax)
MATMUL = (torch.matmul, torch.bmm, Tensor.matmul, Tensor.bmm, Tensor.__matmul__)

Transform = Callable[[int, Tensor], Tensor]
"""(index of the attention layer, its probabilities) → the probabilities to go on with."""


@dataclass
class AttentionLayer:
    """One self-attention of a forward pass.

    Attributes:
        probabilities: ``(N, heads, T, T)``, part of the autograd graph; rows are queries.
        values: ``(N, heads, T, d)``.
        projection: weight ``(C, heads · d)`` of the linear map behind the heads.
        bias: of that map.
        queries, keys: ``(N, heads, T, d)``; some models scale their queries beforehand.
        mixed: ``probabilities @ values``, part of the graph, as the model has it: heads may be
            folded into the samples.
    """

    probabilities: Tensor
    values: Tensor | None = None
    projection: Tensor | None = None
    bias: Tensor | None = None
    queries: Tensor | None = None
    keys: Tensor | None = None
    mixed: Tensor | None = None

    def apart(self, value: Tensor) -> Tensor:
        """``(N, heads, …)`` of a tensor whose heads may be folded into the samples."""
        return value.unflatten(0, self.probabilities.shape[:2]) if value.ndim == 3 else value

    def joined(self, value: Tensor | None, what: str) -> Tensor:
        """One of its tensors as ``(N, T, heads · d)``, float32, detached.

        Raises:
            ValueError: the pass did not show it.
        """
        if value is None:
            raise ValueError(
                f"the forward pass does not show the {what} of an attention layer: its heads are "
                "not mixed by a product of matrices or by fused attention; choose a method that "
                "needs attention maps only, such as GenericAttention"
            )
        return self.apart(value.detach()).float().transpose(1, 2).flatten(2)


@dataclass
class _Expect:
    """What of the last recorded attention is still to come."""

    values: AttentionLayer | None = None
    projection: AttentionLayer | None = None
    factors: tuple[Tensor, Tensor] | None = None  # of the last product that may be scores


@dataclass(eq=False)
class AttentionRecorder(TorchFunctionMode):
    """While open, every self-attention is recorded in :attr:`layers`, in the order of calls.

    Only softmax results ``(N, heads, T, T)`` count, and with ``rows`` also ``(N · heads, T, T)``:
    pooling heads with one query and cross-attention are no maps between a sequence's own tokens.

    The first recorded probabilities are made a leaf that requires grad when nothing before them
    does, so gradients reach all maps and nothing below.

    Args:
        transform: changes the probabilities on their way, e.g. to scale them.
        rows: N; for models that fold their heads into the samples (transformers' CLIP before 4.48).

    >>> import torch
    >>> q = torch.zeros(1, 1, 2, 3)
    >>> with AttentionRecorder() as recorder:
    ...     out = F.scaled_dot_product_attention(q, q, q)
    >>> recorder.layers[0].probabilities[0, 0]
    tensor([[0.5000, 0.5000],
            [0.5000, 0.5000]], grad_fn=<SelectBackward0>)
    """

    transform: Transform | None = None
    rows: int | None = None
    layers: list[AttentionLayer] = field(default_factory=list, init=False)
    _expect: _Expect = field(default_factory=_Expect, init=False)

    def __post_init__(self) -> None:
        super().__init__()
        self._undo = Undo()

    def __enter__(self) -> AttentionRecorder:
        self._undo.__enter__()
        try:
            keep_modes(self._undo)
            return super().__enter__()
        except BaseException:
            self._undo.__exit__()
            raise

    def __exit__(self, *exc_info: object) -> None:
        self._undo.__exit__(*exc_info)

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict | None = None
    ) -> Any:
        """See the class."""
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return self._multi_head(*args, **kwargs)
        result = self.compute(func, args, kwargs)
        return self._seen(result) if func in SOFTMAX else result

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of any other operation, after a look at what follows an attention."""
        if func is F.linear:
            self._projection(args)
        elif func is F.layer_norm:
            self._expect = _Expect()  # what follows is no projection of the heads
        mixing = self._values(args) if func in MATMUL else None
        result = func(*args, **kwargs)
        if mixing is not None:
            mixing.mixed = result
        elif func in MATMUL and len(args) > 1 and (is_map(result) or self._folded(result)):
            self._expect.factors = (args[0], args[1])
        return result

    def _seen(self, result: Tensor, values: Tensor | None = None) -> Tensor:
        """The result of a softmax, recorded when it is a map."""
        if is_map(result):
            return self._record(result, values)
        if self._folded(result):
            shape = (-1, result.shape[0] // (self.rows or 1))
            values = None if values is None else values.unflatten(0, shape)
            return self._record(result.unflatten(0, shape), values).flatten(0, 1)
        return result

    def _folded(self, value: Tensor) -> bool:
        square = value.ndim == 3 and value.shape[-1] == value.shape[-2] > 1
        return square and self.rows is not None and value.shape[0] % self.rows == 0

    def _record(self, probabilities: Tensor, values: Tensor | None = None) -> Tensor:
        if self.transform is not None:
            probabilities = self.transform(len(self.layers), probabilities)
        if not probabilities.requires_grad and torch.is_grad_enabled():
            probabilities = probabilities.detach().requires_grad_()
        layer = AttentionLayer(probabilities, values)
        self.layers.append(layer)
        if values is None:
            self._factors(layer)
            self._expect = _Expect(values=layer)
        else:
            self._expect = _Expect(projection=layer)
        return probabilities

    def _factors(self, layer: AttentionLayer) -> None:
        """Queries and keys of an open implementation: of the product ahead of the softmax."""
        if self._expect.factors is not None:
            query, key = self._expect.factors
            layer.queries = layer.apart(query)
            layer.keys = layer.apart(key).transpose(-2, -1)

    def _values(self, args: tuple) -> AttentionLayer | None:
        """The layer of which this product mixes the values."""
        layer = self._expect.values
        if layer is None or len(args) < 2:
            return None
        shape = layer.probabilities.shape
        if args[0].shape not in (shape, (shape[0] * shape[1], *shape[2:])):
            return None
        layer.values = layer.apart(args[1])
        self._expect = _Expect(projection=layer)
        return layer

    def _projection(self, args: tuple) -> None:
        layer = self._expect.projection
        if layer is None or layer.values is None or len(args) < 2:
            return
        _, heads, _, width = layer.values.shape
        if args[1].shape[1] == heads * width:
            layer.projection = args[1]
            layer.bias = args[2] if len(args) > 2 else None
        self._expect = _Expect()

    def _fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """``softmax(Q Kᵀ · scale + mask) V``; dropout is off in a borrowed model."""
        if enable_gqa:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scaled = self.unchanged(lambda q: q * factor, query)
        scores = self.product(scaled, key.transpose(-2, -1))
        probabilities = self.unchanged(
            lambda s: _masked(s, attn_mask, is_causal).softmax(dim=-1).to(value.dtype), scores
        )
        seen = len(self.layers)
        mixed = self.product(self._seen(probabilities, value), value)
        for layer in self.layers[seen:]:
            layer.mixed, layer.queries, layer.keys = mixed, layer.apart(query), layer.apart(key)
        return mixed

    def _multi_head(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """``nn.MultiheadAttention``'s function, for self-attention without its rarer options."""
        given: dict[str, Any] = {**dict(zip(_MULTI_HEAD_NAMES, args, strict=False)), **kwargs}
        query: Tensor = given["query"]
        weight: Tensor | None = given["in_proj_weight"]
        plain = (
            given["key"] is query
            and given["value"] is query
            and query.ndim == 3
            and given["bias_k"] is None
            and not given["add_zero_attn"]
        )
        if weight is None or not plain:
            return F.multi_head_attention_forward(*args, **kwargs)
        heads: int = given["num_heads"]
        tokens, n, width = query.shape
        packed = self.linear(query, weight, given["in_proj_bias"])
        split = packed.view(tokens, n, 3, heads, width // heads).permute(2, 1, 3, 0, 4)
        mask = _additive(given.get("attn_mask"), query.dtype)
        if mask is not None and mask.ndim == 3:
            mask = mask.view(n, heads, tokens, tokens)
        padding = _additive(given.get("key_padding_mask"), query.dtype)
        if padding is not None:
            padding = padding[:, None, None]
            mask = padding if mask is None else mask + padding
        mixed = self._fused(*split.unbind(0), attn_mask=mask)
        joined = mixed.permute(2, 0, 1, 3).reshape(tokens, n, width)
        self._projection((joined, given["out_proj_weight"], given["out_proj_bias"]))
        weights = self.layers[-1].probabilities if given.get("need_weights", True) else None
        if weights is not None and given.get("average_attn_weights", True):
            weights = weights.mean(dim=1)
        return self.linear(joined, given["out_proj_weight"], given["out_proj_bias"]), weights

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A linear map inside an attention; a mode with other derivatives overrides these."""
        return F.linear(x, weight, bias)

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        """A matrix product of two activations."""
        return a @ b

    def unchanged(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """An elementwise function or a normalisation."""
        return function(x)


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A mask of ``nn.MultiheadAttention``, where True forbids, as what is added to the scores."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)


def _masked(scores: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~allowed, -torch.inf)
    if mask is None:
        return scores
    return scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask


_MULTI_HEAD_NAMES = (
    "query key value embed_dim_to_check num_heads in_proj_weight in_proj_bias bias_k bias_v "
    "add_zero_attn dropout_p out_proj_weight out_proj_bias training key_padding_mask need_weights "
    "attn_mask"
).split()


def is_map(value: Tensor) -> bool:
    """Probabilities between the tokens of one sequence: more than one query, square."""
    return value.ndim == 4 and value.shape[-1] == value.shape[-2] > 1
