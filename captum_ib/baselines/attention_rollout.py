"""Attention rollout: attention followed through all layers (Abnar & Zuidema)."""

from __future__ import annotations

from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import Readout, attention_maps, follow
from captum_ib.checks import BatchSize
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage
from captum_ib.layout import TokenLayout


class AttentionRollout(Named, Attribution):
    """Attention rollout (Abnar & Zuidema, ACL 2020, section 3).

    Ã_l = ½ E_heads[A_l] + ½ I, and the rollout is the product Ã_L · … · Ã_1; the result is the row
    of the token that the output is read from. It does not depend on the class; ``target`` only
    helps to find that token where outputs are read from different ones.

    Values are shares: a sample's tokens sum to 1, those that the map leaves out included.

    >>> import torch
    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> AttentionRollout(model).attribute(torch.rand(2, 3, *size)).shape[:2]
    torch.Size([2, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="share",
        signed=False,
        paper="Abnar & Zuidema, ACL 2020",
        description="share in the token that is read, whatever the output",
        passes="1 forward, backward to the last attention",
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        start_layer: int = 0,
        readout: Readout = None,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Share of each token in the token that is read.

        Common arguments: :mod:`captum_ib.baselines`.
        """
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            maps = attention_maps(call, start_layer=start_layer, any_output=True)
            row = follow(maps.readout(readout), [_mixed(A) for A in maps.probabilities])
            return maps.map(row, layout)

        return explained(calls, relevance, internal_batch_size, layout=layout)


def _mixed(probabilities: Tensor) -> Tensor:
    """Heads averaged, the residual path added, rows normalised."""
    mean = probabilities.mean(dim=1)
    with_residual = mean + torch.eye(mean.shape[-1], device=mean.device, dtype=mean.dtype)
    return with_residual / with_residual.sum(dim=-1, keepdim=True)
