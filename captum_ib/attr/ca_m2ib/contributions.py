"""What each token of a tower contributes to the embedding: what is missing without it."""

# torch does not type unflatten, split and tolist.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from captum_ib.bottleneck import Prior
from captum_ib.checks import BatchSize
from captum_ib.forward import (
    TowerCall,
    activations,
    in_parts,
    layout_of,
    samples_at_once,
    sequence_mask,
    session_layouts,
    session_of,
)
from captum_ib.hooks import AxisTracker, Session
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer


@dataclass(frozen=True)
class Contributions:
    """Contributions of one tower's tokens, and which tokens they are.

    Attributes:
        values: ``(N, T, d)`` in the joint space, positions as :meth:`TokenLayout.tokens` orders
            them; 0 for tokens that don't count.
        counts: ``(N, T)`` bool: neither padding nor a prefix or suffix token.
        layout: of the layer that the tokens belong to.
    """

    values: Tensor
    counts: Tensor
    layout: TokenLayout

    def part(self, start: int, stop: int) -> Contributions:
        """Those of some of the samples."""
        return replace(self, values=self.values[start:stop], counts=self.counts[start:stop])


def contributions(
    call: TowerCall,
    layer: NamedLayer,
    layout: TokenLayout | None = None,
    *,
    earliest: bool = True,
    internal_batch_size: BatchSize = None,
    replay: bool = True,
) -> Contributions:
    """c_i = g(tokens) − g(tokens without i) for every token of a tower, g the pooled embedding.

    "Without" puts the mean of the sample's own tokens in the token's place. One row of a forward
    pass per token and sample.

    Args:
        call: of one tower.
        layer: the layer whose tokens are meant.
        layout: of that layer, where it can't be inferred.
        earliest: take the tokens away as early in the tower as they have the positions of
            ``layer``: in a ViT before the first block, where a token knows its own patch only.
            ``False``: at ``layer`` itself, where tokens have mixed.
        internal_batch_size: most rows per forward pass.
        replay: compute only once what does not depend on the layer.
    """
    parts: list[Contributions] = []
    for part in in_parts(call, samples_at_once(call.n, internal_batch_size)):
        here, to_input, own = layer, False, layout
        if earliest:
            here, to_input, own = _earliest(part, layer, layout)
        with session_of(part, [here], to_input, replay) as session:
            parts.append(_ablated(part, session, own, internal_batch_size))
    with torch.inference_mode(False):  # the fit needs them as ordinary tensors
        return Contributions(
            torch.cat([part.values for part in parts]),
            torch.cat([part.counts for part in parts]),
            parts[0].layout,
        )


def _earliest(
    call: TowerCall, layer: NamedLayer, layout: TokenLayout | None
) -> tuple[NamedLayer, bool, TokenLayout]:
    """The first place in the tower whose tokens have the positions of the layer's."""
    name, module = layer
    blocks = call.embedding.blocks()
    with AxisTracker() as tracker:
        wanted = activations(call, [layer])[name]
    axes = tracker.settled(tracker.of(wanted))
    own = layout_of(call, module, wanted, name, layout, axes)
    before = activations(call, blocks[:1], to_input=True)
    outputs = activations(call, blocks)
    candidates = [(blocks[0], True, before[blocks[0][0]])]
    candidates += [(block, False, outputs[block[0]]) for block in blocks]
    for block, to_input, activation in candidates:
        if _same_positions(own, activation, wanted):
            return block, to_input, own
    return layer, False, own


def _same_positions(layout: TokenLayout, one: Tensor, other: Tensor) -> bool:
    """Whether two activations differ in their channels at most."""
    axis = layout.channel_axis
    return (
        one.ndim == other.ndim
        and one.movedim(axis, -1).shape[:-1] == (other.movedim(axis, -1).shape[:-1])
    )


def _ablated(
    call: TowerCall, session: Session, layout: TokenLayout | None, rows: BatchSize
) -> Contributions:
    (found,) = session_layouts(call, session, layout)
    activation = session.activations[0]
    valid = sequence_mask(call, activation, found)
    tokens = found.tokens(activation)
    counts = counted(found, tokens, valid)
    mean = Prior.of_sample(activation, found, valid).mean
    mean = found.tokens(mean.expand(activation.shape)).to(activation.dtype)
    used = counts.any(dim=0).nonzero().flatten()
    values = torch.zeros(
        *counts.shape, session.output.shape[1], device=activation.device, dtype=torch.float32
    )
    for some in used.split(samples_at_once(len(used), rows, len(tokens))):
        swap = partial(_without, tokens, mean, some, found, activation)
        with torch.no_grad():
            without = session.run(len(some), lambda index, a, swap=swap: swap())
        gone = session.output.float() - without.float().unflatten(0, (len(some), -1))
        values[:, some] = gone.transpose(0, 1)
    if found.spatial:  # feature maps don't know their grid, but a figure needs it
        found = replace(found, grid=found.grid_of(activation))
    return Contributions(values * counts.unsqueeze(-1), counts, found)


def _without(
    tokens: Tensor, mean: Tensor, some: Tensor, layout: TokenLayout, activation: Tensor
) -> Tensor:
    """The activation repeated, with another one of the tokens replaced in each repeat."""
    repeated = tokens.unsqueeze(0).repeat(len(some), 1, 1, 1)
    for row, token in enumerate(some.tolist()):
        repeated[row, :, token] = mean[:, token]
    grid = layout.grid_of(activation) if layout.spatial else None
    return layout.arrange(repeated.flatten(0, 1), grid)


def counted(layout: TokenLayout, tokens: Tensor, valid: Tensor | None) -> Tensor:
    """Tokens ``(N, T)`` that are neither padding nor a prefix or suffix token."""
    n, count = tokens.shape[:2]
    counts = torch.ones(n, count, dtype=torch.bool, device=tokens.device)
    counts[:, : layout.prefix] = False
    counts[:, count - layout.suffix :] = False
    return counts if valid is None else counts & valid.to(counts)
