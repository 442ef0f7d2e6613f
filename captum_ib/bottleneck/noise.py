"""The noise of the bottlenecks: one seed, the same draws for every sample of a call."""

# Lists are filled in place.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK = 64
"""Positions of a sequence that one generator serves."""


class NoiseStream:
    """Standard normal draws for every bottleneck, step by step (common random numbers).

    The draws carry no sample axis: all samples of a call see the same ε, so a sample's result
    does not depend on which others are in its batch.

    The noise of a sequence belongs to its positions, counted from the front, and not to its
    length, so a caption's result does not depend on how far it is padded either: every 64
    positions have a generator of their own, seeded by :func:`block_seed`. All other layers draw
    from one generator, one after the other.

    Args:
        seed: seed of the stream.
        shapes: shape of one activation per bottleneck, without the sample axis.
        n_samples: draws per step, S.
        antithetic: draw ε and −ε in pairs; with odd S the last draw has no partner.
        device: where the draws are made. The stream of one seed differs between device types.
        sequences: per bottleneck, whether its shape ``(T, C)`` is a sequence; default: none is.

    >>> stream = NoiseStream(0, [(3,)], n_samples=2, antithetic=True)
    >>> first = stream.draw()[0]
    >>> first.shape, bool((first[0] == -first[1]).all())
    (torch.Size([2, 3]), True)
    >>> short, long = (NoiseStream(0, [(t, 8)], 2, True, sequences=[True]) for t in (5, 90))
    >>> bool((short.draw()[0] == long.draw()[0][:, :5]).all())
    True
    """

    def __init__(
        self,
        seed: int,
        shapes: Sequence[tuple[int, ...]],
        n_samples: int,
        antithetic: bool,
        device: torch.device | str = "cpu",
        sequences: Sequence[bool] | None = None,
    ) -> None:
        self.seed = seed
        self.shapes = [tuple(shape) for shape in shapes]
        self.sequences = [False] * len(self.shapes) if sequences is None else list(sequences)
        if len(self.sequences) != len(self.shapes):
            raise ValueError(
                f"sequences must say of each of the {len(self.shapes)} shapes whether it is a "
                f"sequence, given {len(self.sequences)} values"
            )
        self.n_samples = n_samples
        self.antithetic = antithetic
        self.device = torch.device(device)
        self._generator = torch.Generator(self.device).manual_seed(seed)
        self._step = 0

    def draw(self) -> list[Tensor]:
        """The draws of the next step: per bottleneck a float32 tensor ``(S, *shape)``."""
        draws = [self._draw(index, shape) for index, shape in enumerate(self.shapes)]
        self._step += 1
        return draws

    def _draw(self, index: int, shape: tuple[int, ...]) -> Tensor:
        fresh = (self.n_samples + 1) // 2 if self.antithetic else self.n_samples
        if self.sequences[index]:
            noise = self._positions(index, fresh, shape)
        else:
            noise = self._normal(self._generator, fresh, shape)
        if not self.antithetic:
            return noise
        return torch.stack([noise, -noise], dim=1).flatten(0, 1)[: self.n_samples]

    def _positions(self, index: int, fresh: int, shape: tuple[int, ...]) -> Tensor:
        """Whole blocks, cut to the length: a block's draws must not depend on what is used."""
        blocks = []
        for block in range(-(-shape[0] // BLOCK)):
            seed = block_seed(self.seed, self._step, index, block)
            generator = torch.Generator(self.device).manual_seed(seed)
            blocks.append(self._normal(generator, fresh, (BLOCK, *shape[1:])))
        return torch.cat(blocks, dim=1)[:, : shape[0]]

    def _normal(self, generator: torch.Generator, fresh: int, shape: tuple[int, ...]) -> Tensor:
        return torch.randn(
            (fresh, *shape), generator=generator, device=self.device, dtype=torch.float32
        )


def block_seed(seed: int, step: int, layer: int, block: int) -> int:
    """The seed of one block of positions: splitmix64 over the four numbers, its lower 63 bits.

    >>> block_seed(0, 0, 0, 0) == block_seed(0, 0, 0, 1)
    False
    """
    state = 0
    for value in (seed, step, layer, block):
        state = _splitmix64(state ^ (value % 2**64))
    return state % 2**63


def _splitmix64(state: int) -> int:
    """One step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): neighbours end far apart."""
    value = (state + 0x9E3779B97F4A7C15) % 2**64
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) % 2**64
    return value ^ (value >> 31)
