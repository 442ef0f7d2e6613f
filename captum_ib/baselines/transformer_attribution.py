"""Relevance of attention, weighted with its gradients and followed through the layers (Chefer)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._relevance import RelevanceMode
from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import Readout, attention_maps, follow_residual
from captum_ib.checks import BatchSize
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage, refuse_pairs
from captum_ib.hooks import borrowed, roots
from captum_ib.layout import TokenLayout


class TransformerAttribution(Named, Attribution):
    """Transformer attribution (Chefer et al., CVPR 2021).

    Relevance R of the target's output is propagated to the attention maps by the LRP rules of
    :mod:`captum_ib.baselines._relevance` (α = 1). Ā_l = I + E_heads[(∇A_l ⊙ R_{A_l})⁺] (eq. 13) and
    C = Ā_L · … · Ā_1 (eq. 14); the result is the row of C of the token that the output is read
    from. Rows are not normalised, as in the authors' code. Values are ≥ 0 and relative.

    Covers encoders made of linear layers, layer normalisation, softmax attention, elementwise
    activations, residual sums and class-token or mean pooling: timm's ViT and DeiT, transformers'
    ViT and BERT.

    >>> import torch
    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> TransformerAttribution(model).attribute(torch.rand(2, 3, *size), target=0).shape[:2]
    torch.Size([2, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier"}),
        unit="relative",
        signed=False,
        paper="Chefer et al., CVPR 2021",
        description="relevance of attention times its gradient, through all layers",
        passes="2 forward and backward",
    )

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        refuse_pairs(
            forward_func,
            "TransformerAttribution explains classifiers: its rules have none for a cosine "
            "similarity; use GenericAttention for a DualEncoder",
        )
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
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Relevance per token. Common arguments: :mod:`captum_ib.baselines`.

        Raises:
            RuntimeError: the model holds an operation that has no relevance rule.
        """
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            maps = attention_maps(call, start_layer=start_layer)
            R = _relevance_of_maps(call)[-len(maps.gradients) :]
            A_bar = [  # eq. 13, without the identity
                (gradient * share).clamp_min(0).mean(dim=1)
                for gradient, share in zip(maps.gradients, R, strict=True)
            ]
            return maps.map(follow_residual(maps.readout(readout), A_bar), layout)  # eq. 14

        return explained(calls, relevance, internal_batch_size, layout=layout)


def _relevance_of_maps(call: Call) -> list[Tensor]:
    """Relevance of every layer's attention probabilities; 1 at the target's output."""
    with borrowed(roots(call.forward_func, call.run)):
        mode = RelevanceMode(rows=call.n)
        with mode:
            output = call.run()
        total = call.score(output).sum()
        graph = [layer.probabilities for layer in mode.layers]
        found = torch.autograd.grad(total, graph, allow_unused=True, materialize_grads=True)
    return [value.float() for value in found]
