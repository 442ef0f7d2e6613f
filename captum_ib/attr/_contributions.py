"""What each token of a tower contributes to the embedding: what is missing without it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from captum_ib.forward.call import Call
from captum_ib.attr._explain import RunSettings, session_layouts, session_mask
from captum_ib.attr._priors import own_prior
from captum_ib.attr._settings import BottleneckSettings
from captum_ib.hooks import CompositeHook, Session, borrowed, open_session, roots
from captum_ib.models.dual_encoder import TowerView
from captum_ib.models.layers import NamedLayer
from captum_ib.layout import TokenLayout

Site = tuple[NamedLayer, bool]
"""A layer, and whether its input is meant."""


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


class PooledView(TowerView):
    """A tower as a forward function: inputs → pooled embedding ``(N, d)``, of length 1."""

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embedding per row."""
        return self.dual.encode(self.modality, inputs, mask)

    def part(self, start: int, stop: int) -> PooledView:
        """The view for some of the samples."""
        return PooledView(self.dual, self.modality, self.other_embedding[start:stop])


def contributions(
    call: Call,
    layer: NamedLayer,
    layout: TokenLayout | None,
    settings: RunSettings,
    earliest: bool = True,
) -> Contributions:
    """c_i = g(tokens) − g(tokens without i) for every token of a tower, g the pooled embedding.

    "Without" puts the mean of the sample's own tokens in the token's place. One row of a forward
    pass per token and sample.

    Args:
        call: of one tower (:func:`captum_ib.attr._towers.pair_calls`).
        layer: the layer whose tokens are meant.
        layout: of that layer, where it can't be inferred.
        settings: batch size and replay.
        earliest: take the tokens away as early in the tower as they have the positions of
            ``layer``: in a ViT before the first block, where a token knows its own patch only.
            ``False``: at ``layer`` itself, where tokens have mixed.
    """
    size = settings.samples_at_once(call.n, 1)
    parts: list[Contributions] = []
    for start in range(0, call.n, size):
        part = call.part(start, min(start + size, call.n))
        view = part.forward_func
        part.forward_func = PooledView(view.dual, view.modality, view.other_embedding)
        parts.append(_of_part(part, layer, layout, settings, earliest))
    with torch.inference_mode(False):  # the fit needs them as ordinary tensors
        return Contributions(
            torch.cat([part.values for part in parts]),
            torch.cat([part.counts for part in parts]),
            parts[0].layout,
        )


def _of_part(
    call: Call,
    layer: NamedLayer,
    layout: TokenLayout | None,
    settings: RunSettings,
    earliest: bool,
) -> Contributions:
    site, own = (layer, False), layout
    if earliest:
        site, own = _earliest_site(call, layer, layout)
    (name, module), to_input = site
    with open_session(
        call.forward_func, call.run, [module], [name], call.n, to_input, settings.replay
    ) as session:
        (found,) = session_layouts(call, session, own)
        valid = session_mask(call, session, found)
        values, counts = _ablate(session, found, valid, settings)
        if found.spatial:  # feature maps don't know their grid, but a figure needs it
            found = replace(found, grid=found.grid_of(session.activations[0]))
    return Contributions(values, counts, found)


def _earliest_site(
    call: Call, layer: NamedLayer, layout: TokenLayout | None
) -> tuple[Site, TokenLayout]:
    """The first place in the tower whose tokens have the positions of the layer's."""
    blocks = call.forward_func.blocks()
    modules: list[nn.Module] = [block for _, block in blocks]
    outputs: dict[int, Tensor] = {}
    inputs: dict[int, Tensor] = {}
    wanted: dict[int, Tensor] = {}

    def keep(found: dict[int, Tensor], index: int, activation: Tensor) -> None:
        found[index] = activation.detach()

    hooks = (
        CompositeHook(modules, partial(keep, outputs)),
        CompositeHook(modules[:1], partial(keep, inputs), to_input=True),
        CompositeHook([layer[1]], partial(keep, wanted)),
    )
    with (
        borrowed(roots(call.forward_func, call.run)),
        torch.no_grad(),
        hooks[0],
        hooks[1],
        hooks[2],
    ):
        call.run()
    own = layout or call.forward_func.layout(layer[1], wanted[0], call.inputs, layer[0])
    candidates = [((blocks[0], True), inputs.get(0))]
    candidates += [((block, False), outputs.get(i)) for i, block in enumerate(blocks)]
    for site, activation in candidates:
        if activation is not None and _same_positions(own, activation, wanted[0]):
            return site, own
    return (layer, False), own


def _same_positions(layout: TokenLayout, one: Tensor, other: Tensor) -> bool:
    """Whether two activations differ in their channels at most."""
    axis = layout.channel_axis
    return (
        one.ndim == other.ndim
        and one.movedim(axis, -1).shape[:-1] == (other.movedim(axis, -1).shape[:-1])
    )


def _ablate(
    session: Session, layout: TokenLayout, valid: Tensor | None, settings: RunSettings
) -> tuple[Tensor, Tensor]:
    """Contributions ``(N, T, d)`` and which tokens count ``(N, T)``."""
    activation = session.activations[0]
    tokens = layout.tokens(activation)
    counts = counted(layout, tokens, valid)
    mean = own_prior(activation, layout, valid, BottleneckSettings(0.0)).mean
    mean = layout.tokens(mean.expand(activation.shape)).to(activation.dtype)
    used = counts.any(dim=0).nonzero().flatten()
    values = torch.zeros(*counts.shape, session.output.shape[1], device=activation.device)
    for some in used.split(settings.samples_at_once(len(used), len(tokens))):
        swap = partial(_without, tokens, mean, some, layout, activation)
        with torch.no_grad():
            without = session.run(len(some), lambda index, a, swap=swap: swap())
        gone = session.output.float() - without.float().unflatten(0, (len(some), -1))
        values[:, some] = gone.transpose(0, 1)
    return values * counts.unsqueeze(-1), counts


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
