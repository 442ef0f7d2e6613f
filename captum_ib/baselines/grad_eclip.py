"""Grad-ECLIP: values of one attention, weighted by the gradient of the token that is read."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._blocks import counted_tokens, project
from captum_ib.baselines._recorder import AttentionLayer, Transform
from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import (
    AttentionMaps,
    Readout,
    attention_maps,
    layer_start,
)
from captum_ib.checks import BatchSize, require_choice
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage
from captum_ib.layout import TokenLayout

Similarity = Literal["heads", "projected", "none"]


class GradECLIP(Named, Attribution):
    """Grad-ECLIP (Zhao et al., ICML 2024), for pairs and for any transformer that reads one token.

    With o = A v the joined heads of the last attention ahead of their projection, g = ∂S/∂o at the
    token that is read (class token; end token of a text), and S the explained output, position j
    has H_j = Σ_c g_c v_jc · λ_j: the channel weights are gradients, and the "loosened" attention
    λ_j = mm(cos(q_cls, k_j)) is the cosine of queries and keys, scaled to 0 … 1 over the patches
    of an image or the valid tokens of a text.

    Signed by default, in units of the output. The paper rectifies H_j (``relu_attributions``),
    which leaves nothing of some maps; its code runs the explained blocks with one head
    (``joined_heads``), so that the score explained there is not the model's.

    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> GradECLIP(model).attribute(torch.rand(2, 3, *size), target=1).shape[:2]
    torch.Size([2, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit=OUTPUT,
        signed=True,
        paper="Zhao et al., ICML 2024",
        description="values of the last attention, weighted by gradient and key similarity",
        passes="1 forward and backward",
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        start_layer: int = -1,
        similarity: Similarity = "heads",
        relu_attributions: bool = False,
        joined_heads: bool = False,
        readout: Readout = None,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Weighted values per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            start_layer: first attention layer of the sum; negative counts from the end (the paper:
                -1, the last one).
            similarity: λ from queries and keys as they are (``"heads"``), behind the projection of
                the heads (``"projected"``, the authors' evaluation script), or 1 (``"none"``).
            relu_attributions: drop negative values as the authors do: of an image per layer, of a
                text in the sum over the layers.
            joined_heads: run the explained layers with one head, as the authors' code does. What
                is explained is then the score of that other model.

        Raises:
            ValueError: a model without attention maps, or one that reads several tokens; NaN; a
                setting, target or layer out of range.
            TypeError: arguments of a wrong type.
        """
        require_choice("similarity", similarity, ("heads", "projected", "none"))
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            changed = _one_head(call, start_layer) if joined_heads else None
            maps = attention_maps(call, start_layer=start_layer, mixed=True, transform=changed)
            row = _one_token(maps, readout)
            tokens = row.shape[1]
            known = maps.layout(layout)
            counted = counted_tokens(call, tokens, known)
            total = torch.zeros_like(row)
            for layer, gradient in zip(maps.layers[maps.start :], maps.mixed, strict=True):
                g = torch.einsum("ni,nic->nc", row, gradient)
                v = layer.joined(layer.values, "values")
                values = torch.einsum("nc,njc->nj", g, v) * _loosened(
                    layer, row, counted, similarity
                )
                rectified = relu_attributions and known.spatial
                total = total + (values.clamp_min(0) if rectified else values)
            total = total.clamp_min(0) if relu_attributions else total
            return maps.map(total, layout)

        return explained(calls, relevance, internal_batch_size, layout=layout)


def _loosened(layer: AttentionLayer, row: Tensor, counted: Tensor, kind: Similarity) -> Tensor:
    """λ: cosines of the read token's query and all keys, 0 … 1 over the counted positions."""
    if kind == "none":
        return torch.ones_like(row)
    queries = layer.joined(layer.queries, "queries")
    keys = layer.joined(layer.keys, "keys")
    if kind == "projected":
        queries, keys = project(layer, queries * _unscaled(layer)), project(layer, keys)
    read = torch.einsum("ni,nic->nc", row, queries).unsqueeze(1)
    cosines = torch.cosine_similarity(read, keys, dim=-1)
    low = cosines.masked_fill(~counted, math.inf).amin(dim=1, keepdim=True)
    high = cosines.masked_fill(~counted, -math.inf).amax(dim=1, keepdim=True)
    spread = high - low
    flat = spread <= 0  # a single token, or equal keys: the similarity tells nothing apart
    return torch.where(
        flat, torch.ones_like(cosines), (cosines - low) / spread.masked_fill(flat, 1)
    )


def _unscaled(layer: AttentionLayer) -> float:
    """√d where the model has divided its queries by it beforehand, else 1.

    Scores differ within a row as the logarithms of its probabilities do.
    """
    query, key = layer.queries, layer.keys
    if query is None or key is None:  # joined() has refused these
        return 1.0
    query, key = layer.apart(query.detach()).double(), layer.apart(key.detach()).double()
    products = (query[..., -1:, :] @ key.transpose(-2, -1))[..., 0, :]
    logs = layer.probabilities.detach()[..., -1, :].double().log()
    seen = torch.isfinite(logs)
    logs, products = logs.where(seen, logs.new_zeros(())), products.where(seen, logs.new_zeros(()))
    count = seen.sum(-1, keepdim=True)
    logs = (logs - logs.sum(-1, keepdim=True) / count) * seen
    products = (products - products.sum(-1, keepdim=True) / count) * seen
    factor = float((logs * products).sum() / products.square().sum().clamp_min(1e-30))
    width = math.sqrt(query.shape[-1])
    return width if factor > (1 + 1 / width) / 2 else 1.0


def _one_token(maps: AttentionMaps, readout: Readout) -> Tensor:
    """The token that is read, ``(N, T)``, one-hot."""
    row = maps.readout(readout)
    most = int((row > 0).sum(dim=1).max())
    if most > 1:
        raise ValueError(
            f"the output is read from {most} tokens, and Grad-ECLIP explains one class or end "
            "token; pass readout= with its index, or choose GenericAttention or LeGrad"
        )
    return row


def _one_head(call: Call, start_layer: int) -> Transform:
    """Attention of the explained layers as one head over the joined queries and keys has it.

    Its scores are q·k / √(H d), the sum of the heads' own over √H; these are the logarithms of
    their probabilities but for a constant per row, which the softmax takes out.
    """
    start = layer_start(start_layer, len(attention_maps(call, any_output=True).layers))

    def joined(index: int, probabilities: Tensor) -> Tensor:
        if index < start:
            return probabilities
        logs = probabilities.float().clamp_min(torch.finfo(torch.float32).tiny).log()
        scores = logs.sum(dim=1, keepdim=True) / math.sqrt(logs.shape[1])
        return scores.softmax(dim=-1).to(probabilities.dtype).expand_as(probabilities)

    return joined
