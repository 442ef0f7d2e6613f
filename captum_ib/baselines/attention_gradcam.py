"""Grad-CAM on an attention map, the comparator of Chefer et al."""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import AttentionMaps, Readout, attention_maps
from captum_ib.checks import BatchSize
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage
from captum_ib.layout import TokenLayout


class AttentionGradCAM(Named, Attribution):
    """Grad-CAM on one layer's attention, as in Chefer et al. (CVPR 2021, section 4, "GradCAM").

    The heads are the channels: with a_h the attention of head h from the token that is read to all
    patches, and g_h its gradient, the map is (E_h[ḡ_h · a_h])⁺ with ḡ_h the mean of g_h over the
    patches (Selvaraju et al., ICCV 2017, eq. 1–2). Values are ≥ 0, in units of the output.

    >>> import torch
    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> AttentionGradCAM(model).attribute(torch.rand(2, 3, *size), target=0).shape[:2]
    torch.Size([2, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit=OUTPUT,
        signed=False,
        paper="Chefer et al., CVPR 2021",
        description="attention of the last layer, heads weighted by their gradient",
        passes="1 forward and backward",
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        attention_layer: int = -1,
        relu_attributions: bool = True,
        readout: Readout = None,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Weighted attention per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            attention_layer: whose attention; negative counts from the end (Chefer et al.: -1).
        """
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            maps = attention_maps(call, start_layer=attention_layer)
            row = maps.readout(readout)
            attention = torch.einsum("ni,nhij->nhj", row, maps.probabilities[0])
            gradient = torch.einsum("ni,nhij->nhj", (row > 0).float(), maps.gradients[0])
            counted = _counted(maps, layout).to(gradient.device)
            weight = (gradient * counted).sum(-1, keepdim=True) / counted.sum(-1, keepdim=True)
            values = (weight * attention).mean(dim=1)
            return maps.map(values.clamp_min(0) if relu_attributions else values, layout)

        return explained(calls, relevance, internal_batch_size, layout=layout)


def _counted(maps: AttentionMaps, layout: TokenLayout | None) -> Tensor:
    """Positions over which the gradient is averaged, ``(1 or N, 1, T)``: patches, valid tokens."""
    tokens = maps.probabilities[0].shape[-1]
    known = maps.layout(layout)
    counted = torch.ones(1, 1, tokens, dtype=torch.float32)
    counted[..., : known.prefix] = 0
    valid = maps.call.valid_tokens(tokens) if known.kind == "sequence" else None
    return counted if valid is None else valid.float().unsqueeze(1)
