"""TokenTM: attention and what tokens become on their way, through all layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._blocks import (
    States,
    blocks_in,
    first_norms,
    require_one_each,
    second_norms,
    valid_tokens,
)
from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import (
    AttentionMaps,
    Readout,
    attention_maps,
    layer_start,
)
from captum_ib.checks import BatchSize
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage
from captum_ib.hooks import borrowed, roots
from captum_ib.layout import TokenLayout
from captum_ib.models.architectures import NamedLayer


class TokenTM(Named, Attribution):
    """Token transformation matters (Wu et al., CVPR 2024).

    A transformation of tokens a_i → b_i counts W = diag(L_i · C_i): the ratio of lengths
    L_i = ‖b_i‖ / ‖a_i‖ and the correlation of directions C = softmax_i(cos(a_i, b_i)). From
    C_0 = diag(‖e_i‖), the lengths of the embedded tokens, layer by layer

        C_l = (I + W_mlp) (I + (Ā W_att) ⊙ G) C_{l−1}

    with Ā the attention in the mean over heads and G = E_h[(∂y/∂A)⁺]. W_att is that of a block's
    input and the sum behind its attention, W_mlp that of this sum and the block's output. The
    result is the row of C_L of the token that the output is read from. Values are ≥ 0 and relative.

    The authors' repository could not be had: this follows a re-implementation that others made from
    the paper (in LibraGrad's code).

    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> TokenTM(model).attribute(torch.rand(2, 3, *size), target=1).shape[:2]
    torch.Size([2, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="relative",
        signed=False,
        paper="Wu et al., CVPR 2024",
        description="attention times gradient and how tokens change, through all layers",
        passes="1 forward and backward",
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
        """Contribution per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            start_layer: first layer of the product, whose input are the e_i; negative counts from
                the end.

        Raises:
            ValueError: a model without attention maps, of unknown blocks, or whose blocks do not
                normalise ahead of attention and MLP; NaN; a target or layer out of range.
            TypeError: arguments of a wrong type.
        """

        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            blocks = blocks_in(call, "TokenTM")
            maps, tokens = _pass(call, blocks)
            row = maps.readout(readout)
            valid = valid_tokens(call, row.shape[1], maps.layout(layout))
            first = layer_start(start_layer, len(blocks))
            for index in reversed(range(first, len(blocks))):
                before, between, behind = (state[index] for state in tokens)
                attention = maps.probabilities[index].mean(dim=1)
                gradient = maps.gradients[index].clamp_min(0).mean(dim=1)
                row = row * (1 + _transformation(between, behind, valid))
                step = attention * _transformation(before, between, valid).unsqueeze(1) * gradient
                row = row + torch.einsum("ni,nij->nj", row, step)
            lengths = tokens[0][first].norm(dim=-1)  # C_0
            return maps.map(row * lengths, layout)

        return explained(calls, relevance, internal_batch_size, layout=layout)


def _transformation(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """The diagonal of W(a → b), ``(N, T)``: lengths and directions, padding left out."""
    lengths = b.norm(dim=-1) / (a.norm(dim=-1) + 1e-8)
    cosines = torch.cosine_similarity(a, b, dim=-1)
    return lengths * cosines.masked_fill(~valid, -torch.inf).softmax(dim=1)


def _pass(
    call: Call, blocks: Sequence[NamedLayer]
) -> tuple[AttentionMaps, tuple[list[Tensor], list[Tensor], list[Tensor]]]:
    """Attention maps, and the tokens that enter each block, its second half, and come out."""
    entering, norm, between, last = States(), States(), States(), States()
    with (
        borrowed(roots(call.forward_func, call.run)),
        entering.hook(call, blocks, to_input=True),
        norm.hook(call, first_norms(blocks, "TokenTM"), to_input=True),
        between.hook(call, second_norms(blocks, "TokenTM"), to_input=True),
        last.hook(call, blocks[-1:]),
    ):
        maps = attention_maps(call)
    require_one_each(maps.layers, blocks)
    before, middle = entering.tokens(len(blocks)), between.tokens(len(blocks))
    for (name, _), given, taken in zip(blocks, before, norm.tokens(len(blocks)), strict=True):
        if not torch.equal(given, taken):
            raise ValueError(
                f"block {name} does not normalise its tokens ahead of the attention, so the sum "
                "behind the attention can't be seen; choose GenericAttention"
            )
    return maps, (before, middle, [*before[1:], *last.tokens(1)])
