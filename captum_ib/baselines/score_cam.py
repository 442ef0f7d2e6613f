"""Score-CAM: channels weighted by the score of the input seen through them (Wang et al.)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor
from torch.nn import functional as F

from captum_ib.baselines._perturb import Canvas, Scorer, chunks, masks_per_pass
from captum_ib.baselines.one_layer import LayerState, OneLayer, layer_state
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, log_usage, watched
from captum_ib.hooks import borrowed, roots
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer


class ScoreCAM(OneLayer, PerturbationAttribution):
    """Score-CAM (Wang et al., CVPR workshops 2020) on token grids, feature maps and sequences.

    Every channel A_c, blown up to the input and min–max normalised (eq. 4–5), is a mask H_c;
    its score is f(X ∘ H_c) − f(X_b) (eq. 3 and 6), α the softmax of the scores over the channels,
    and the map ReLU(Σ_c α_c A_c) (eq. 7). X_b is the same for all channels and cancels in the
    softmax, so it is not computed. Channels that are constant have no mask and no weight. On text
    the masks lie on the token embeddings.

    One forward pass per channel and sample. Values are ≥ 0 by the ReLU, in units of the activation.

    See :class:`~captum_ib.baselines.one_layer.OneLayer` for the layer. The default layer of a
    transformer is the last block but one, whole: behind a layer normalisation the channels of a
    token sum to nearly 0, and so would the map of channels with similar weights.

    >>> import torch
    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> ScoreCAM(model).attribute(torch.rand(1, 3, *size), target=0).shape[:2]
    torch.Size([1, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="activation units",
        signed=False,
        paper="Wang et al., CVPR workshops 2020",
        description="channels of a layer, weighted by what the model sees through them",
        passes="1 forward per channel",
        layers="many",
    )

    normalised = False

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        attribute_to_layer_input: bool = False,
        relu_attributions: bool = True,
        *,
        score: Literal["probability", "output"] = "probability",
        layout: TokenLayout | None = None,
        perturbations_per_eval: int = 32,
    ) -> Inputs:
        """Channels of the layer, weighted by their scores.

        Common arguments: :mod:`captum_ib.baselines`.

        Raises:
            ValueError: a layer that is constant over its positions.
        """

        def explain(
            call: Call, layer: NamedLayer, layout: TokenLayout | None, baseline: Any
        ) -> Tensor:
            state = layer_state(call, layer, layout, to_input=attribute_to_layer_input)
            canvas = Canvas.of(call, baseline)
            channels = channel_maps(state, layer[0])
            size = masks_per_pass(perturbations_per_eval, channels.shape[1])
            with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
                scorer = Scorer.of(canvas.call, score)
                scores = [
                    scorer(canvas.masked(channel_masks(channels[:, rows], canvas)))
                    for rows in watched(chunks(channels.shape[1], size))
                ]
            constant = constant_channels(channels).T
            alpha = torch.cat(scores).masked_fill(constant, -torch.inf).softmax(dim=0)
            values = torch.einsum("cn,npc->np", alpha, state.positions(state.activation))
            return state.map(values.clamp_min(0) if relu_attributions else values)

        return self.explain_layers(
            inputs, target, additional_forward_args, explain, layout=layout, baselines=baselines
        )


def channel_maps(state: LayerState, layer: str) -> Tensor:
    """The layer's channels as maps ``(N, C, h, w)`` or ``(N, C, T)``; padding takes the minimum.

    Raises:
        ValueError: a sample all of whose channels are constant.
    """
    values = state.positions(state.activation)
    if state.valid is not None:
        counted = state.counted().bool()
        lowest = values.masked_fill(~counted, torch.inf).amin(dim=1, keepdim=True)
        values = torch.where(counted, values, lowest)
    channels = values.transpose(1, 2)
    if bool(constant_channels(channels).all(dim=1).any()):
        raise ValueError(
            f"every channel of layer {layer} is constant over its positions for at least one "
            "sample, so there is no mask to make of it; choose another layer"
        )
    if not state.layout.spatial:
        return channels
    grid = channels.unflatten(2, state.layout.grid_of(state.activation))
    if state.layout.fold is None:
        return grid
    # Stretches of one time axis below each other, each (frequency, time) → (time, frequency).
    return grid.unflatten(2, (state.layout.fold, -1)).transpose(3, 4).flatten(2, 3)


def channel_masks(channels: Tensor, canvas: Canvas) -> Tensor:
    """Maps ``(N, K, …)`` → masks ``(K, N, *positions)`` in [0, 1]; constant maps become 0.

    Raises:
        ValueError: a sequence whose length is not the input's.
    """
    if channels.ndim == 4:
        big = F.interpolate(channels, canvas.positions, mode="bilinear", align_corners=False)
    elif tuple(channels.shape[2:]) == canvas.positions:
        big = channels
    else:
        raise ValueError(
            f"the layer has {tuple(channels.shape[2:])} positions, the input {canvas.positions}; "
            "choose a layer with the input's tokens, or pass layout="
        )
    # Before they were blown up: the interpolation of a constant is one only up to rounding.
    constant = constant_channels(channels).unsqueeze(-1)
    masks = min_max(big.flatten(2)).masked_fill(constant, 0)
    return masks.unflatten(2, canvas.positions).transpose(0, 1)


def min_max(values: Tensor) -> Tensor:
    """Values ``(…, P)`` moved and scaled to [0, 1] along the last axis; constants become 0."""
    low, high = values.amin(dim=-1, keepdim=True), values.amax(dim=-1, keepdim=True)
    return (values - low) / (high - low).where(high > low, torch.ones_like(high))


def constant_channels(channels: Tensor) -> Tensor:
    """Which maps ``(N, K, …)`` are the same everywhere, ``(N, K)``."""
    flat = channels.flatten(2)
    return flat.amax(dim=2) == flat.amin(dim=2)
