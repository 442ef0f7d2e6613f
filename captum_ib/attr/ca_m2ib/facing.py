"""The two sides of a pair, facing each other: each call knows the tokens of both towers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ib.attr.ca_m2ib.contributions import Contributions, contributions
from captum_ib.checks import BatchSize, require_choice
from captum_ib.forward import TowerCall
from captum_ib.hooks import borrowed
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(kw_only=True)
class FacingCall(TowerCall):
    """One side of a pair that also knows the tokens of both sides.

    Attributes:
        own: C, contributions of the own tokens.
        facing: C', tokens of the other side.
    """

    own: Contributions
    facing: Contributions

    def part(self, start: int, stop: int) -> Self:
        """The call for some of the samples."""
        own, facing = self.own.part(start, stop), self.facing.part(start, stop)
        return replace(super().part(start, stop), own=own, facing=facing)


def facing(
    calls: Sequence[TowerCall],
    layers: Sequence[NamedLayer],
    layouts: Sequence[TokenLayout | None],
    *,
    queries: str = "early",
    keys: str = "contributions",
    internal_batch_size: BatchSize = None,
    replay: bool = True,
) -> list[FacingCall]:
    """The two sides' calls with the tokens of both.

    Args:
        calls: of the two towers.
        layers: one per tower: the (first) bottleneck's.
        layouts: of these layers, where they can't be inferred.
        queries: where contributions are measured: ``"early"`` or at the ``"layer"``.
        keys: ``"contributions"`` of the other tower's tokens, or its last layer's ``"tokens"`` in
            the joint space.
        internal_batch_size, replay: as for :func:`contributions`.

    Raises:
        ValueError: another value of ``queries`` or ``keys``; a tower whose last layer has other
            tokens than the bottleneck's.
    """
    require_choice("queries", queries, ("early", "layer"))
    require_choice("keys", keys, ("contributions", "tokens"))
    own = [
        contributions(
            call,
            layer,
            layout,
            earliest=queries == "early",
            internal_batch_size=internal_batch_size,
            replay=replay,
        )
        for call, layer, layout in zip(calls, layers, layouts, strict=True)
    ]
    seen = own
    if keys == "tokens":
        seen = [_joint_tokens(call, side) for call, side in zip(calls, own, strict=True)]
    return [
        FacingCall(
            call.forward_func, call.inputs, call.additional, other=call.other, own=one, facing=other
        )
        for call, one, other in zip(calls, own, reversed(seen), strict=True)
    ]


def _joint_tokens(call: TowerCall, side: Contributions) -> Contributions:
    """The last layer's tokens of a tower in the joint space, in the place of contributions."""
    with borrowed([call.embedding.dual]), torch.no_grad():
        values: Tensor = call.embedding.tower.tokens(*call.inputs, *call.additional).float()
    tokens = side.counts.shape[1]
    if values.shape[1] != tokens:
        raise ValueError(
            f"the {call.modality} tower's last layer has {values.shape[1]} tokens, the "
            f'bottleneck\'s layer {tokens}; use keys="contributions", or a later layer'
        )
    return replace(side, values=values)
