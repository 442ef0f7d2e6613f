"""LeGrad: how sensitive the features of every layer are to its attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.axis import Axis
from captum_ib.baselines._blocks import States, blocks_in, hook, require_one_each, valid_tokens
from captum_ib.baselines._pooling import PoolingRecorder, pooled_gradients
from captum_ib.baselines._recorder import AttentionRecorder
from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import (
    layer_start,
    positions_of,
    require_maps,
    token_layout,
    token_map,
)
from captum_ib.checks import BatchSize, require_choice, require_finite
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage, watched
from captum_ib.hooks import AxisTracker, Recorder, Replay, borrowed, roots, samples_axis_of
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer

Pooling = Literal["model", "mean"]


class LeGrad(Named, Attribution):
    """LeGrad (Bousselham et al., ICCV 2025): CLIP, SigLIP and plain ViTs.

    For each layer l, s_l is the output that the model's own head gives for the tokens Z_l of that
    layer, as if it were the last. Its map is the gradient of s_l with respect to the layer's own
    attention A_l, rectified, in the mean over the heads and over the rows, E_l =
    mean_{h,i} (∂s_l/∂A_l)⁺; where a head pools with attention of one query (SigLIP), the gradient
    is that of the pooling attention. The result is the mean of E_l over the layers.

    The authors' code pools with the mean of all tokens, class token included (``pooling="mean"``),
    also in models that read the class token, and its default is the last two layers
    (``start_layer=-2``), summed. Values are ≥ 0, in units of the output.

    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> LeGrad(model).attribute(torch.rand(2, 3, *size), target=1).shape[:2]
    torch.Size([2, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit=OUTPUT,
        signed=False,
        paper="Bousselham et al., ICCV 2025",
        description="positive gradient of each layer's features at its attention, layers averaged",
        passes="2 forward, backward through one block per layer",
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        start_layer: int = 0,
        pooling: Pooling = "model",
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Sensitivity per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            start_layer: first layer of the mean; negative counts from the end (the paper: 0, all;
                the authors' code: -2).
            pooling: ``"model"``: what the model's head reads; ``"mean"``: the mean of all tokens
                in the place of every token, as in the authors' code.

        Raises:
            ValueError: a model without attention maps or of unknown blocks; NaN; a setting, target
                or layer out of range.
            TypeError: arguments of a wrong type.
        """
        require_choice("pooling", pooling, ("model", "mean"))
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            blocks = blocks_in(call, "LeGrad")
            with borrowed(roots(call.forward_func, call.run)):
                layers = _forward(call, blocks, start_layer)
                tokens = layers.attention[0].shape[-1]
                known = token_layout(call, tokens, layout, layers.positions)
                rows = valid_tokens(call, tokens, known).float()
                rows = rows / rows.sum(dim=1, keepdim=True)
                head = _Head.of(call, blocks, layers.states[-1])
                total = torch.zeros_like(rows)
                for state, attention in watched(zip(layers.states, layers.attention, strict=True)):
                    state = _pooled(state, rows) if pooling == "mean" else state
                    total = total + head.map_of(state, attention, rows)
            return token_map(call, total / len(layers.states), known)

        return explained(calls, relevance, internal_batch_size, layout=layout)


def _pooled(state: Tensor, rows: Tensor) -> Tensor:
    """The mean of the tokens, at the place of each."""
    mean = torch.einsum("nt,ntc->nc", rows.to(state.dtype), state)
    return mean.unsqueeze(1).expand_as(state)


@dataclass(frozen=True)
class _Layers:
    """Of each chosen layer its tokens Z_l ``(N, T, C)`` and its attention A_l, in one graph."""

    states: list[Tensor]
    attention: list[Tensor]
    positions: Axis | None


def _forward(call: Call, blocks: Sequence[NamedLayer], start_layer: int) -> _Layers:
    states, recorder, tracker = States(), AttentionRecorder(rows=call.n), AxisTracker()
    with tracker, recorder, states.hook(call, blocks):
        output = call.run()
    call.score(output)  # a wrong target is named before anything else
    require_finite(output, "the output of forward_func")
    layers = require_maps(recorder.layers, call.n, 0)
    require_one_each(layers, blocks)
    start = layer_start(start_layer, len(layers))
    attention = [layer.probabilities for layer in layers]
    chosen = [states.seen[index] for index in range(start, len(blocks))]
    return _Layers(chosen, attention[start:], positions_of(tracker, attention))


@dataclass(frozen=True)
class _Head:
    """What follows the last block; what comes before it is not computed again."""

    call: Call
    last: Sequence[NamedLayer]
    replay: Replay

    @classmethod
    def of(cls, call: Call, blocks: Sequence[NamedLayer], state: Tensor) -> _Head:
        """The head of a call's model, from a pass that goes on with a layer's tokens."""
        recorder = Recorder(call.n, samples_axis_of(call.forward_func))
        leaf = state.detach().requires_grad_()
        with recorder.recording(), hook(call, blocks[-1:], lambda *_: leaf):
            call.run()
        return cls(call, blocks[-1:], recorder.replay())

    def map_of(self, state: Tensor, attention: Tensor, rows: Tensor) -> Tensor:
        """E_l: the rectified gradient of s_l, in the mean over heads and rows, ``(N, T)``."""
        pooling = PoolingRecorder()
        with self.replay.playing(1), pooling, hook(self.call, self.last, lambda *_: state):
            output = self.call.run()
        score = self.call.score(output).sum()
        pooled = pooled_gradients(pooling, score)
        if len(pooled) == 1 and pooled[0].shape[-1] == attention.shape[-1]:
            return pooled[0].float().clamp_min(0).mean(dim=(1, 2))
        (gradient,) = torch.autograd.grad(
            score, attention, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.einsum("ni,nij->nj", rows, gradient.float().clamp_min(0).mean(dim=1))
