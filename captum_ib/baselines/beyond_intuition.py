"""Beyond Intuition: what tokens perceive through attention, and the feedback of the reasoning."""

from __future__ import annotations

from typing import Any, Literal

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_ib.baselines._perturb import Canvas
from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import AttentionMaps, Readout, attention_maps
from captum_ib.checks import BatchSize, require_choice, require_count, require_finite
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage, watched
from captum_ib.hooks import CompositeHook, borrowed, roots, samples_axis_of
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import blocks_of
from captum_ib.models.view import ModelView


class BeyondIntuition(Named, Attribution):
    """Token attribution by attention perception and reasoning feedback (Chen et al., TMLR 2023).

    Perception: P = I, then P ← P + Â_l P per layer, with one of two approximations of Â_l.

    - ``"head"``: Σ_h I_h A_h, I_h ∝ E_ij |(A_hᵀ ∇A_h)_ij|, which sum to 1 over the heads.
    - ``"token"``: E_h[A_h] · diag(‖z_j W‖ / ‖z_j‖), with z_j the tokens that enter the block and
      z_j W their values behind the heads' projection.

    In windows (Swin, Swin V2) attention is followed as in
    :class:`~captum_ib.baselines.GenericAttention`, and a merged token's feedback holds for each
    of the tokens that were merged into it; the paper knows no windows.

    Feedback: F = E_h[(∫ ∇A_L(α x) dα)⁺], the gradient at the last attention along the path from
    the baseline. The result is the row of P ⊙ F of the token that the output is read from (its
    magnitude of P for ``"token"``, as in the authors' code). Values are ≥ 0 and relative.

    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> BeyondIntuition(model).attribute(torch.rand(1, 3, *size), target=0, n_steps=2).shape[:2]
    torch.Size([1, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="relative",
        signed=False,
        paper="Chen et al., TMLR 2023",
        description="what attention passes on, times the gradient along a path of inputs",
        passes="21 forward and backward",
        options={"steps": "n_steps"},
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 20,
        *,
        variant: Literal["head", "token"] = "head",
        start_layer: int = 0,
        readout: Readout = None,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Relevance per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            baselines: where the path starts.
            n_steps: points on the path, both ends among them (authors' code: 20).
            variant: see the class.
            start_layer: of the perception (the authors' code for ViT-B: 3 for ``"head"``, 5 for
                ``"token"``).

        Raises:
            ValueError: for ``"token"`` also blocks that are not known.
        """
        require_count("n_steps", n_steps)
        require_choice("variant", variant, ("head", "token"))
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, baseline: Any, layout: TokenLayout | None) -> Tensor:
            if variant == "head":
                maps = attention_maps(call, start_layer=start_layer, windows=True)
                layers = _by_heads(maps)
            else:
                maps, layers = _by_tokens(call, start_layer)
            F = maps.between_all(_feedback(call, baseline, n_steps))
            P = maps.through(torch.eye(F.shape[1]).to(F).expand_as(F), layers)
            weights = P.abs() * maps.at_first(F)
            return maps.map(torch.einsum("ni,nij->nj", maps.readout(readout), weights), layout)

        return explained(calls, relevance, internal_batch_size, baselines=baselines, layout=layout)


def _by_heads(maps: AttentionMaps) -> list[Tensor]:
    layers = []
    for attention, gradient in zip(maps.probabilities, maps.gradients, strict=True):
        weight = (attention.transpose(-2, -1) @ gradient).abs().mean(dim=(-2, -1))
        if maps.windowed:  # one weight per head of a sample, whatever its windows
            weight = weight.unflatten(0, (maps.call.n, -1))
            weight = weight.mean(dim=1, keepdim=True).expand_as(weight).flatten(0, 1)
        total = weight.sum(dim=1, keepdim=True)
        weight = weight / total.where(total > 0, torch.ones_like(total))
        layers.append(torch.einsum("nh,nhij->nij", weight, attention))
    return layers


def _by_tokens(call: Call, start_layer: int) -> tuple[AttentionMaps, list[Tensor]]:
    entering: dict[int, Tensor] = {}

    def see(index: int, activation: Tensor) -> None:
        entering[index] = activation.detach().clone().float()

    names, modules = zip(*_blocks(call), strict=True)
    axis = samples_axis_of(call.forward_func)
    with (
        borrowed(roots(call.forward_func, call.run)),
        CompositeHook(modules, see, True, names, axis),
    ):
        maps = attention_maps(call, windows=True, start_layer=start_layer)
    if len(entering) != len(maps.layers):
        raise ValueError(
            f"the model has {len(entering)} blocks and {len(maps.layers)} attention maps, so it is "
            'unknown which tokens enter each attention; use variant="head"'
        )
    layers = []
    for number, attention in enumerate(maps.probabilities):
        index, layer = maps.start + number, maps.layers[maps.start + number]
        if layer.values is None or layer.projection is None:
            raise ValueError(
                f"no linear map follows the heads of attention {index}, so the size of its values "
                'is unknown; use variant="head"'
            )
        values = layer.values.detach().float().transpose(1, 2).flatten(2)
        sizes = (values @ layer.projection.detach().float().T).norm(dim=-1)
        before = entering[index].norm(dim=-1)
        if maps.windowed:
            before = maps.windows[number].cut(before.flatten(1)).flatten(0, 1)
        ratio = sizes / before.where(before > 0, torch.ones_like(before))
        # Padding of a window is no token of the map.
        ratio = ratio.where(before > 0, torch.zeros_like(ratio)) if maps.windowed else ratio
        layers.append(attention.mean(dim=1) * ratio.unsqueeze(1))
    return maps, layers


def _blocks(call: Call) -> list[tuple[str, nn.Module]]:
    forward = call.forward_func
    if isinstance(forward, ModelView):
        return forward.blocks()
    if not isinstance(forward, nn.Module):
        raise ValueError(
            "forward_func is a plain function, so the blocks that tokens enter are unknown; pass "
            'the model itself, or use variant="head"'
        )
    return blocks_of(forward).blocks


def _last(call: Call) -> Tensor:
    """The gradient at the last attention."""
    return attention_maps(call, start_layer=-1, windows=True).gradients[0]


def _feedback(call: Call, baseline: Any, n_steps: int) -> Tensor:
    """E_h of the positive part of the mean gradient at the last attention, shaped as it is."""
    canvas = Canvas.of(call, baseline)
    total: Tensor | float = 0.0
    for alpha in watched(torch.linspace(0, 1, n_steps, dtype=torch.float32).tolist()):
        state = torch.lerp(canvas.baseline, canvas.values, alpha)
        total = total + _last(canvas.at(state))
    mean = torch.as_tensor(total) / n_steps
    require_finite(mean, "the gradient along the path")
    return mean.clamp_min(0).mean(dim=1)
