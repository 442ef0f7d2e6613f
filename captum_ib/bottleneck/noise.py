"""The noise of a fit: one seeded stream per call, the same draws for every sample."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class NoiseStream:
    """Standard normal draws for every bottleneck, step by step (common random numbers).

    The draws carry no sample axis: all samples of a call see the same ε, so a sample's result
    does not depend on which others are in its batch.

    Args:
        seed: seed of the stream.
        shapes: shape of one activation per bottleneck, without the sample axis.
        n_samples: draws per step, S.
        antithetic: draw ε and −ε in pairs; with odd S the last draw has no partner.
        device: where the draws are made. The stream of one seed differs between device types.

    >>> stream = NoiseStream(0, [(3,)], n_samples=2, antithetic=True)
    >>> first = stream.draw()[0]
    >>> first.shape, bool((first[0] == -first[1]).all())
    (torch.Size([2, 3]), True)
    """

    def __init__(
        self,
        seed: int,
        shapes: Sequence[tuple[int, ...]],
        n_samples: int,
        antithetic: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        self.shapes = [tuple(shape) for shape in shapes]
        self.n_samples = n_samples
        self.antithetic = antithetic
        self.device = torch.device(device)
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def draw(self) -> list[Tensor]:
        """The draws of the next step: per bottleneck a float32 tensor ``(S, *shape)``."""
        return [self._draw(shape) for shape in self.shapes]

    def _draw(self, shape: tuple[int, ...]) -> Tensor:
        fresh = (self.n_samples + 1) // 2 if self.antithetic else self.n_samples
        noise = torch.randn((fresh, *shape), generator=self._generator, device=self.device)
        if not self.antithetic:
            return noise
        return torch.stack([noise, -noise], dim=1).flatten(0, 1)[: self.n_samples]
