"""Attention rollout: attention followed through all layers (Abnar & Zuidema)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._tokens import (
    Readout,
    TokenSettings,
    TokenValues,
    attention_maps,
    explain_tokens,
    follow,
)
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, log_usage
from captum_ib.layout import TokenLayout


class AttentionRollout(Named, Attribution):
    """Attention rollout (Abnar & Zuidema, ACL 2020, section 3).

    Ã_l = ½ E_heads[A_l] + ½ I, and the rollout is the product Ã_L · … · Ã_1; the result is the row
    of the token that the output is read from. It does not depend on the class; ``target`` only
    helps to find that token where outputs are read from different ones.

    Values are shares: a sample's tokens sum to 1, those that the map leaves out included.

    Args:
        forward_func: the model, a function that calls it, or a
            :class:`~captum_ib.models.dual_encoder.DualEncoder`.

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

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        super().__init__(forward_func)

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
        internal_batch_size: int | None = None,
    ) -> Inputs:
        """Share of each token in the token that is read.

        Args:
            inputs: tensor or tuple of tensors, samples on axis 0; for a ``DualEncoder`` a pair.
            target: see the class.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            start_layer: first attention layer of the product; negative counts from the end.
            readout: index of the token that is read, for all samples or one each; default: the
                tokens that the output depends on behind the last attention.
            layout: where the tokens lie, if it can't be inferred; for a pair one per tower.
            internal_batch_size: samples per forward pass; default all.

        Returns:
            ``(N, 1, h, w)``, or ``(N, T)`` for sequences; a pair of both for a ``DualEncoder``.

        Raises:
            ValueError: a model without attention maps; NaN; a target or layer out of range.
            TypeError: arguments of a wrong type.
        """

        def relevance(call: Call) -> TokenValues:
            maps = attention_maps(call, start_layer=start_layer, any_output=True)
            row = follow(maps.readout(readout), [_mixed(a) for a in maps.probabilities])
            return TokenValues(row, maps.positions)

        settings = TokenSettings(internal_batch_size, layout)
        return explain_tokens(
            self.forward_func, inputs, target, additional_forward_args, relevance, settings
        )


def _mixed(probabilities: Tensor) -> Tensor:
    """Heads averaged, the residual path added, rows normalised."""
    mean = probabilities.mean(dim=1)
    with_residual = mean + torch.eye(mean.shape[-1], device=mean.device, dtype=mean.dtype)
    return with_residual / with_residual.sum(dim=-1, keepdim=True)
