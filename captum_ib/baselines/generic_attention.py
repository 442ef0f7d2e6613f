"""Generic attention explainability: gradient-weighted attention, layer by layer (Chefer et al.)."""

from __future__ import annotations

from typing import Any

from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import Readout, attention_maps
from captum_ib.checks import BatchSize
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage, logit_scale
from captum_ib.layout import TokenLayout


class GenericAttention(Named, Attribution):
    """Generic attention explainability (Chefer et al., ICCV 2021), self-attention encoders.

    Ā = E_heads[(∇A ⊙ A)⁺] (eq. 5) and, from R = I, R ← R + Ā R per layer (eq. 6). The result is
    the row of R of the token that the output is read from (section 3.4): the class token of a
    ViT or BERT, the end token of a CLIP text tower, the mean over patches with mean pooling.

    In windows (Swin, Swin V2) Ā has a block for each window, at the places of its tokens before the
    shift; where stages merge tokens, each of them has an equal share. The map has the first stage's
    resolution. The paper knows no windows: that is ours.

    Values are ≥ 0 and relative: a token's own residual path counts 1.

    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> import torch
    >>> size = model.patch_embed.img_size
    >>> GenericAttention(model).attribute(torch.rand(2, 3, *size), target=1).shape[:2]
    torch.Size([2, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="relative",
        signed=False,
        paper="Chefer et al., ICCV 2021",
        description="attention times its positive gradient, through all layers",
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
        scale: float | None = None,
        readout: Readout = None,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Relevance per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            start_layer: the paper's CLIP notebook: -1, the last one.
            scale: factor on the output; the gradients grow with it, the residual path does not.
                Default: 1, and for a ``DualEncoder`` the factor that the model itself has on the
                cosine (``logit_scale``), as in the paper's CLIP notebook.
        """
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)
        factor = logit_scale(self.forward_func) if scale is None else scale

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            maps = attention_maps(call, start_layer=start_layer, windows=True)
            A_bar = [  # eq. 5
                (factor * gradient * A).clamp_min(0).mean(dim=1)
                for A, gradient in zip(maps.probabilities, maps.gradients, strict=True)
            ]
            row = maps.through(maps.readout(readout).unsqueeze(1), A_bar)  # eq. 6
            return maps.map(row[:, 0], layout)

        return explained(calls, relevance, internal_batch_size, layout=layout)
