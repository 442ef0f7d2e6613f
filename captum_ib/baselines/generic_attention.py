"""Generic attention explainability: gradient-weighted attention, layer by layer (Chefer et al.)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from captum.attr import Attribution

from captum_ib.baselines._tokens import (
    Readout,
    TokenSettings,
    TokenValues,
    attention_maps,
    explain_tokens,
    follow_residual,
)
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, log_usage, logit_scale
from captum_ib.layout import TokenLayout


class GenericAttention(Named, Attribution):
    """Generic attention explainability (Chefer et al., ICCV 2021), self-attention encoders.

    Ā = E_heads[(∇A ⊙ A)⁺] (eq. 5) and, from R = I, R ← R + Ā R per layer (eq. 6). The result is
    the row of R of the token that the output is read from (section 3.4): the class token of a
    ViT or BERT, the end token of a CLIP text tower, the mean over patches with mean pooling.

    On a :class:`~captum_ib.models.dual_encoder.DualEncoder`, ``inputs`` is a pair and so is the
    result. Values are ≥ 0 and relative:
    a token's own residual path counts 1.

    Args:
        forward_func: the model, a function that calls it, or a ``DualEncoder``.

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
        scale: float | None = None,
        readout: Readout = None,
        layout: TokenLayout | None = None,
        internal_batch_size: int | None = None,
    ) -> Inputs:
        """Relevance per token.

        Args:
            inputs: tensor or tuple of tensors, samples on axis 0; for a ``DualEncoder`` a pair.
            target: output to explain, in any of Captum's forms; none for a ``DualEncoder``.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            start_layer: first attention layer of the product; negative counts from the end (the
                paper's CLIP notebook: -1, the last one).
            scale: factor on the output; the gradients grow with it, the residual path does not.
                Default: 1, and for a ``DualEncoder`` the factor that the model itself has on the
                cosine (``logit_scale``), as in the paper's CLIP notebook.
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

        factor = logit_scale(self.forward_func) if scale is None else scale

        def relevance(call: Call) -> TokenValues:
            maps = attention_maps(call, start_layer=start_layer)
            weighted = [
                (factor * gradient * probability).clamp_min(0).mean(dim=1)
                for probability, gradient in zip(maps.probabilities, maps.gradients, strict=True)
            ]
            return TokenValues(follow_residual(maps.readout(readout), weighted), maps.positions)

        settings = TokenSettings(internal_batch_size, layout)
        return explain_tokens(
            self.forward_func, inputs, target, additional_forward_args, relevance, settings
        )
