"""Attention of a pooling head: one learned query over all tokens (SigLIP, timm's ``attn_pool``)."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from captum_ib.baselines._recorder import AttentionRecorder


class PoolingRecorder(AttentionRecorder):
    """While open, attention with one query is recorded; attention between tokens is not.

    Its layers hold probabilities ``(N, heads, 1, T)``.
    """

    def _seen(self, result: Tensor, values: Tensor | None = None) -> Tensor:
        one_query = result.ndim == 4 and result.shape[-2] == 1 < result.shape[-1]
        return self._record(result, values) if one_query else result

    def _multi_head(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """``nn.MultiheadAttention``'s function with one query, computed openly."""
        query, key, value, width, heads = args[:5]
        weight, bias = cast("tuple[Tensor | None, Tensor | None]", args[5:7])
        one_query = query.ndim == 3 and query.shape[0] == 1 < key.shape[0]
        masks = [kwargs.get(name) for name in ("attn_mask", "key_padding_mask")]
        plain = key is value and all(mask is None for mask in masks)
        if weight is None or not (one_query and plain):
            return F.multi_head_attention_forward(*args, **kwargs)
        rows = [None] * 3 if bias is None else bias.split(width)
        q, k, v = (
            F.linear(given, matrix, row)
            .unflatten(2, (heads, width // heads))
            .permute(1, 2, 0, 3)  # (T, N, heads, d) → (N, heads, T, d)
            for given, matrix, row in zip(
                (query, key, value), weight.split(width), rows, strict=True
            )
        )
        joined = self._fused(q, k, v).permute(2, 0, 1, 3).flatten(2)
        out_weight, out_bias = args[11], args[12]
        return F.linear(joined, out_weight, out_bias), None


def pooled_gradients(recorder: PoolingRecorder, score: Tensor) -> list[Tensor]:
    """Of a score with respect to the pooling attentions that it depends on."""
    graph = [layer.probabilities for layer in recorder.layers]
    if not graph or not score.requires_grad:
        return []
    found = torch.autograd.grad(score, graph, retain_graph=True, allow_unused=True)
    return [gradient for gradient in found if gradient is not None]
