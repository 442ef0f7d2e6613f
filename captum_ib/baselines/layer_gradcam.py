"""Grad-CAM at any layer whose positions are known: tokens, channels first or last, sequences."""

from __future__ import annotations

from typing import Any

from captum.attr import GradientAttribution
from torch import Tensor

from captum_ib.baselines.one_layer import OneLayer, layer_state
from captum_ib.checks import BatchSize
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import Call, Inputs, log_usage
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer


class LayerGradCAM(OneLayer, GradientAttribution):
    """Grad-CAM (Selvaraju et al., ICCV 2017) on token grids, feature maps and sequences.

    Σ_c α_c A_c with α_c the mean of ∂y/∂A_c over the positions (eq. 1–2); prefix tokens and padding
    stay out of both. On channels-first feature maps it is Captum's ``LayerGradCam``, which knows
    no other layout. Signed unless ``relu_attributions``, in units of the output.

    See :class:`~captum_ib.baselines.one_layer.OneLayer` for the layer.

    >>> import torch
    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> LayerGradCAM(model).attribute(torch.rand(2, 3, *size), target=0).shape[:2]
    torch.Size([2, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual", "generator"}),
        unit=OUTPUT,
        signed=True,
        paper="Selvaraju et al., ICCV 2017",
        description="Grad-CAM at layers of every kind: feature maps, tokens, sequences",
        passes="1 forward and backward",
        layers="many",
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = False,
        *,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Weighted sum of the layer's channels. Common arguments: :mod:`captum_ib.baselines`.

        Raises:
            RuntimeError: the output does not depend on the layer.
        """

        def explain(call: Call, layer: NamedLayer, layout: TokenLayout | None) -> Tensor:
            state = layer_state(
                call, layer, layout, gradient=True, to_input=attribute_to_layer_input
            )
            counted = state.counted()
            slopes = state.positions(state.gradient)
            alpha = (slopes * counted).sum(dim=1, keepdim=True) / counted.sum(1, keepdim=True)
            values = (alpha * state.positions(state.activation)).sum(dim=-1)
            return state.map(values.clamp_min(0) if relu_attributions else values)

        return self.explain_layers(
            inputs, target, additional_forward_args, explain, internal_batch_size, layout=layout
        )
