"""Attention within windows (Swin, Swin V2): which place of the grid each token of a window has.

Nothing is assumed of a model but its blocks: the tokens that enter each block are replaced by their
own numbers, and what reaches the block's first linear map shows how they were shifted, padded and
cut into windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captum_ib.baselines._recorder import AttentionLayer, AttentionRecorder
from captum_ib.forward import Call, layout_of
from captum_ib.hooks import CompositeHook, borrowed, roots, samples_axis_of
from captum_ib.models.layers import NamedLayer, blocks_of
from captum_ib.models.view import ModelView

_BASE = 128  # digits that every floating-point type holds exactly
_DIGITS = 6  # three of the position, two of the sample, one that marks a token


@dataclass(frozen=True)
class Windows:
    """The windows of one attention layer.

    Attributes:
        grid: ``(h, w)`` of the tokens that enter the block.
        places: ``(windows, T)``, position of every token in the grid, in reading order; h · w
            where a window holds padding.
        fold: stretches of time that the grid holds below each other, of a folded spectrogram.
    """

    grid: tuple[int, int]
    places: Tensor
    fold: int | None = None

    @property
    def size(self) -> int:
        """Positions of the grid, h · w."""
        return self.grid[0] * self.grid[1]

    def cut(self, values: Tensor) -> Tensor:
        """Values at positions ``(N, …, h·w)`` → in windows ``(N, …, windows, T)``; padding 0."""
        return F.pad(values, (0, 1))[..., self.places]

    def join(self, values: Tensor) -> Tensor:
        """The way back, ``(N, …, windows, T)`` → ``(N, …, h·w)``."""
        whole = values.new_zeros(*values.shape[:-2], self.size + 1)
        return whole.index_add(-1, self.places.flatten(), values.flatten(-2))[..., :-1]

    def follow(self, rows: Tensor, matrix: Tensor) -> Tensor:
        """Rows ``(N, R, h·w)`` times the windows' matrices ``(N · windows, T, T)``."""
        blocks = matrix.unflatten(0, (len(rows), -1))
        return self.join(torch.einsum("nrwi,nwij->nrwj", self.cut(rows), blocks))


def follow_windows(rows: Tensor, maps: Sequence[Tensor], windows: Sequence[Windows]) -> Tensor:
    """``rows · (I + M_L) · … · (I + M_1)`` from the last layer's positions to the first one's.

    Where stages meet, a position is the mean of those that were merged into it: each has its share
    of the row.

    Args:
        rows: ``(N, R, positions of the last layer)``.
        maps: per layer ``(N · windows, T, T)``, from first to last.
        windows: of the layers.
    """
    grid = windows[-1].grid
    for matrix, own in zip(reversed(maps), reversed(windows), strict=True):
        rows = refined(rows, grid, own.grid, share=True)
        rows, grid = rows + own.follow(rows, matrix), own.grid
    return rows


def refined(
    values: Tensor, coarse: tuple[int, int], fine: tuple[int, int], *, share: bool
) -> Tensor:
    """Values at the positions of a merged grid ``(…, h·w)`` at those of the grid before.

    Args:
        values: at the merged positions.
        coarse, fine: the grids.
        share: divide a value among the positions merged, or give it to each.

    Raises:
        ValueError: positions were not merged in equal squares.
    """
    if coarse == fine:
        return values
    step = -(-fine[0] // coarse[0])
    if tuple(-(-side // step) for side in fine) != tuple(coarse):
        raise ValueError(
            f"between two stages the grid goes from {fine} to {coarse}, which is no merging of "
            "equal squares; choose a method that needs no attention, such as RISE or LayerGradCAM"
        )
    rows = torch.arange(fine[0], device=values.device) // step
    columns = torch.arange(fine[1], device=values.device) // step
    parent = (rows.unsqueeze(1) * coarse[1] + columns).flatten()
    if share:
        values = values / torch.bincount(parent, minlength=values.shape[-1])
    return values[..., parent]


def windows_of(call: Call, layers: Sequence[AttentionLayer]) -> list[Windows]:
    """The windows of every attention layer of a call, from one pass of numbered tokens.

    Raises:
        ValueError: blocks that are unknown, that hold no or several attentions, or whose first
            linear map does not see each token once.
    """
    forward = call.forward_func
    if not isinstance(forward, (nn.Module, ModelView)):
        raise _refusal("forward_func is a plain function, so its blocks are unknown")
    blocks = blocks_of(forward).blocks
    names, modules = zip(*blocks, strict=True)
    probe = _Numbered()
    hook = CompositeHook(modules, probe.enter, True, names, samples_axis_of(forward))
    with borrowed(roots(forward, call.run)), torch.no_grad(), hook, probe:
        call.run()
    if len(probe.seen) != len(layers) or probe.attentions() != [1] * len(layers):
        raise _refusal(f"{len(layers)} attentions in {len(blocks)} blocks")
    return [
        _decoded(call, block, *found, layer.probabilities)
        for block, found, layer in zip(blocks, probe.seen, layers, strict=True)
    ]


@dataclass(eq=False)
class _Numbered(AttentionRecorder):
    """Numbers the tokens that enter a block, and sees them again at its first linear map.

    Attributes:
        seen: per block, the activation that entered it and what the linear map was given.
    """

    seen: list[tuple[Tensor, Tensor]] = field(default_factory=list, init=False)
    _entered: Tensor | None = field(default=None, init=False)
    _starts: list[int] = field(default_factory=list, init=False)

    def enter(self, index: int, activation: Tensor) -> Tensor:
        """The tokens of a block's input, numbered."""
        self._starts.append(len(self.layers))
        self._entered = activation
        return _numbers(activation)

    def attentions(self) -> list[int]:
        """How many attentions each block has."""
        ends = [*self._starts[1:], len(self.layers)]
        return [end - start for start, end in zip(self._starts, ends, strict=True)]

    def compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Normalisations leave the numbers alone until they are seen."""
        entered = self._entered
        if entered is not None and func is F.layer_norm:
            return args[0]
        if entered is not None and func is F.linear:
            value: Tensor = args[0]
            if value.ndim == 3 and value.shape[-1] == entered.shape[-1]:
                self.seen.append((entered, value))
                self._entered = None
        return super().compute(func, args, kwargs)


def _numbers(activation: Tensor) -> Tensor:
    """Position and sample of every token, in digits along the channels of ``(N, …, C)``."""
    n, width = len(activation), activation.shape[-1]
    size = activation[0].numel() // width
    if width < _DIGITS:
        raise _refusal(f"{width} channels are too few to number the tokens")
    place = torch.arange(size, device=activation.device).expand(n, -1)
    sample = torch.arange(n, device=activation.device).unsqueeze(1).expand(-1, size)
    parts = [place % _BASE, place // _BASE % _BASE, place // _BASE**2]
    parts += [sample % _BASE, sample // _BASE, torch.ones_like(place)]
    digits = torch.stack(parts, dim=-1).to(activation.dtype)
    return F.pad(digits, (0, width - _DIGITS)).view(activation.shape)


def _decoded(
    call: Call, block: NamedLayer, entered: Tensor, value: Tensor, probabilities: Tensor
) -> Windows:
    """The windows of a block, if the linear map saw every token of every sample once."""
    name, module = block
    # Of four axes the last one has the digits, or the linear map would not see every token.
    fold = None
    if entered.ndim == 4:
        grid = int(entered.shape[1]), int(entered.shape[2])
    else:
        layout = layout_of(call, module, entered, name)
        grid, fold = layout.grid_of(entered), layout.fold
    size = entered[0].numel() // entered.shape[-1]
    digits = value[..., :_DIGITS].long()
    marked = digits[..., 5] == 1
    place = digits[..., 0] + _BASE * digits[..., 1] + _BASE**2 * digits[..., 2]
    place = torch.where(marked, place, size).unflatten(0, (call.n, -1))
    sample = (digits[..., 3] + _BASE * digits[..., 4]).unflatten(0, (call.n, -1))
    own = torch.arange(call.n, device=value.device).view(-1, 1, 1)
    each = torch.arange(size, device=value.device)
    known = (
        value.shape[:2] == (len(probabilities), probabilities.shape[-1])
        and grid[0] * grid[1] == size
        and bool(((sample == own) | (place == size)).all())
        and bool((place == place[:1]).all())
        and torch.equal(place[0].flatten().sort().values[:size], each)
    )
    if not known:
        raise _refusal(f"the windows of block {name} can't be told")
    return Windows(grid, place[0], fold)


def _refusal(why: str) -> ValueError:
    return ValueError(
        f"attention in windows, and {why}; choose a method that needs no attention, such as RISE "
        "or LayerGradCAM"
    )
