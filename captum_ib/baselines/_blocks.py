"""What the methods between the blocks of a transformer share: states, heads, tokens read out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from captum_ib.baselines._recorder import AttentionLayer, AttentionRecorder, Transform
from captum_ib.checks import require_finite
from captum_ib.forward import Call, embedding_of
from captum_ib.hooks import CompositeHook, borrowed, roots, samples_axis_of
from captum_ib.layout import TokenLayout
from captum_ib.models.architectures import FIRST_NORMS, NamedLayer
from captum_ib.models.layers import blocks_of
from captum_ib.models.tower import Tower
from captum_ib.models.view import ModelView

SECOND_NORMS = (
    "norm2",
    "layernorm_after",
    "layer_norm2",
    "ln_2",
    "post_attention_layernorm",
    "ffn_norm",
)
"""Names of the normalisation between a block's attention and its MLP."""


def blocks_in(call: Call, method: str) -> list[NamedLayer]:
    """The blocks of a call's model, in order.

    Raises:
        ValueError: a plain function, or a model whose blocks are unknown.
    """
    forward = call.forward_func
    if isinstance(forward, ModelView):
        found = forward.blocks()
    elif isinstance(forward, nn.Module):
        found = blocks_of(forward).blocks
    else:
        raise ValueError(
            f"{method} looks between the blocks of a model, and forward_func is a plain function; "
            "pass the model itself"
        )
    if not found:
        raise ValueError(f"{method} looks between the blocks of a model, and this tower has none")
    return found


def require_one_each(layers: Sequence[AttentionLayer], blocks: Sequence[NamedLayer]) -> None:
    """That every block has one attention map.

    Raises:
        ValueError: another number of maps.
    """
    if len(layers) != len(blocks):
        raise ValueError(
            f"the model has {len(blocks)} blocks and {len(layers)} attention maps between all "
            "tokens, so it is unknown which belong together; choose a method that needs no "
            "attention per block, such as LayerGradCAM or RISE"
        )


def second_norms(blocks: Sequence[NamedLayer], method: str) -> list[NamedLayer]:
    """The normalisation ahead of each block's MLP, which tokens enter behind the attention.

    Raises:
        ValueError: a block without one.
    """
    return [_norm_of(block, SECOND_NORMS, method) for block in blocks]


def first_norms(blocks: Sequence[NamedLayer], method: str) -> list[NamedLayer]:
    """The normalisation ahead of each block's attention.

    Raises:
        ValueError: a block without one.
    """
    return [_norm_of(block, FIRST_NORMS, method) for block in blocks]


def _norm_of(block: NamedLayer, names: Sequence[str], method: str) -> NamedLayer:
    for name in names:
        module = getattr(block[1], name, None)
        if isinstance(module, nn.Module):
            return f"{block[0]}.{name}", module
    raise ValueError(
        f"{method} follows tokens through blocks that normalise ahead of attention and MLP, and "
        f"block {block[0]} ({type(block[1]).__name__}) shows no such normalisation; choose "
        "GenericAttention or another method that needs attention maps only"
    )


@dataclass
class States:
    """Hidden states of one pass, by the index of their layer: part of the graph, ``(N, T, C)``."""

    seen: dict[int, Tensor] = field(default_factory=dict[int, Tensor])

    def keep(self, index: int, activation: Tensor) -> None:
        """To be called by a hook; a copy, since the model may go on in place."""
        self.seen[index] = activation.clone()

    def tokens(self, count: int) -> list[Tensor]:
        """The states of so many layers, float32, detached."""
        return [self.seen[index].detach().float() for index in range(count)]

    def hook(
        self, call: Call, layers: Sequence[NamedLayer], to_input: bool = False
    ) -> CompositeHook:
        """The hook that keeps what goes into these layers, or comes out."""
        return hook(call, layers, self.keep, to_input)


def hook(
    call: Call,
    layers: Sequence[NamedLayer],
    function: Callable[[int, Tensor], Tensor | None],
    to_input: bool = False,
) -> CompositeHook:
    """A hook on named layers of a call's model."""
    names, modules = zip(*layers, strict=True)
    return CompositeHook(modules, function, to_input, names, samples_axis_of(call.forward_func))


@dataclass(frozen=True)
class TowerTokens:
    """Tokens of a call's tower in the joint space.

    Attributes:
        values: ``(N, T, d)``, float32, of length 1.
        layers: what the recorder saw of each attention.
    """

    values: Tensor
    layers: list[AttentionLayer]


def tower_tokens(
    call: Call,
    blocks: Sequence[NamedLayer],
    transform: Transform | None = None,
    last: Tensor | None = None,
) -> TowerTokens:
    """The tokens of the last block through the tower's own head, each on its own.

    Args:
        call: of a forward function with a tower.
        blocks: its blocks.
        transform: changes attention on its way.
        last: what to go on with in the place of the last block's output.
    """
    tower: Tower = embedding_of(call).tower
    recorder = AttentionRecorder(transform, call.n)
    put = hook(call, blocks[-1:], lambda _, value: None if last is None else last.to(value.dtype))
    with borrowed(roots(call.forward_func, call.run)), recorder, put, torch.no_grad():
        tokens = tower.tokens(*(value.clone() for value in call.arguments))
    require_finite(tokens, "the tokens in the joint space")
    return TowerTokens(nn.functional.normalize(tokens.float(), dim=-1), recorder.layers)


def valid_tokens(call: Call, tokens: int, layout: TokenLayout) -> Tensor:
    """All positions of a grid, class token and all; the valid tokens of a sequence, ``(N, T)``."""
    valid = call.valid_tokens(tokens) if layout.kind == "sequence" else None
    if valid is None:
        return torch.ones(call.n, tokens, dtype=torch.bool, device=call.device)
    return valid.bool().to(call.device).expand(call.n, -1)


def counted_tokens(call: Call, tokens: int, layout: TokenLayout) -> Tensor:
    """The patches of a grid, without class token; the valid tokens of a sequence, ``(N, T)``."""
    counted = valid_tokens(call, tokens, layout).clone()
    if layout.spatial:
        counted[:, : layout.prefix] = False
        counted[:, tokens - layout.suffix :] = False
    return counted


def project(layer: AttentionLayer, joined: Tensor) -> Tensor:
    """W_o · joined heads + b_o, ``(N, T, C)``.

    Raises:
        ValueError: the pass did not show the map behind the heads.
    """
    if layer.projection is None:
        raise ValueError(
            "no linear map follows the heads of an attention layer, so what their values become "
            "is unknown; choose a method that needs attention maps only, such as GenericAttention"
        )
    bias = None if layer.bias is None else layer.bias.detach().float()
    return nn.functional.linear(joined, layer.projection.detach().float(), bias)
