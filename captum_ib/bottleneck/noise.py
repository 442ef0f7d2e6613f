"""The noise of the bottlenecks: N(μ, σ²) of every layer, and the draws from one seed."""

# Lists are filled in place.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from captum_ib.bottleneck.statistics import MIN_STD, ActivationStatistics
from captum_ib.checks import require_choice, require_weight
from captum_ib.layout import TokenLayout

INACTIVE_SHARE = 0.01
"""A neuron that is non-zero in at most this share of the cases is dead (Schulz et al., code)."""

BLOCK = 64
"""Positions of a sequence that one generator serves."""


@dataclass(frozen=True)
class Noise:
    """Where the noise and prior N(μ, σ²) of the layers come from.

    Attributes:
        statistics: of the layers over reference inputs; ``None``: the sample's own activation.
        variance: σ² of N(0, σ²) in their place; ``None``: μ and σ are estimated.
        mask_inactive: leave dead neurons out; ``"auto"``: on convolutional feature maps.
        min_std: lower bound of σ.
    """

    statistics: ActivationStatistics | None = None
    variance: float | None = None
    mask_inactive: bool | Literal["auto"] = False
    min_std: float = MIN_STD

    def __post_init__(self) -> None:
        require_choice("mask_inactive", self.mask_inactive, (True, False, "auto"))
        require_weight("min_std", self.min_std, positive=True)
        if self.variance is not None:
            require_weight("variance", self.variance, positive=True)

    def prior(self, name: str, R: Tensor, layout: TokenLayout, valid: Tensor | None) -> Prior:
        """Noise and prior of one layer."""
        if self.variance is not None:
            return Prior.standard(R, self.variance)
        auto = self.mask_inactive == "auto"
        mask = layout.kind in ("nchw", "ncdhw") if auto else bool(self.mask_inactive)
        if self.statistics is None:
            return Prior.of_sample(R, layout, valid, mask_inactive=mask, min_std=self.min_std)
        return Prior.of_references(
            self.statistics, name, R, layout, mask_inactive=mask, min_std=self.min_std
        )


@dataclass(frozen=True)
class Prior:
    """Noise and prior N(μ, σ²) of one layer, broadcastable to ``(N, *layer_shape)``.

    Attributes:
        mean: μ.
        std: σ.
        active: 0 for dead neurons, whose information does not count; ``None``: all are alive.
    """

    mean: Tensor
    std: Tensor
    active: Tensor | None = None

    @staticmethod
    def of_sample(
        R: Tensor,
        layout: TokenLayout,
        valid: Tensor | None = None,
        *,
        mask_inactive: bool = False,
        min_std: float = MIN_STD,
    ) -> Prior:
        """From a sample's own activation: mean and variance over its positions, per channel.

        A flat layer has no positions; its elements take their place.
        """
        values = R.detach().float()
        flat = layout.kind == "flat"
        axes = tuple(axis for axis in range(1, values.ndim) if flat or axis != layout.channel_axis)
        weight = values.new_ones(())
        if valid is not None and not flat:
            weight = valid.to(values).unsqueeze(layout.channel_axis)
        weight = weight.expand_as(values)
        total = weight.sum(dim=axes, keepdim=True).clamp_min(1.0)
        mean = (values * weight).sum(dim=axes, keepdim=True) / total
        variance = ((values - mean).square() * weight).sum(dim=axes, keepdim=True) / total
        active = None
        if mask_inactive:
            share = ((values != 0) * weight).sum(dim=axes, keepdim=True) / total
            active = (share > INACTIVE_SHARE).float()
        return Prior(mean, variance.sqrt().clamp_min(min_std), active)

    @staticmethod
    def of_references(
        statistics: ActivationStatistics,
        name: str,
        R: Tensor,
        layout: TokenLayout,
        *,
        mask_inactive: bool = False,
        min_std: float = MIN_STD,
    ) -> Prior:
        """From statistics over reference inputs, element by element.

        References of a sequence layer may be longer than the sample; positions behind it are not
        used.

        Raises:
            ValueError: statistics of another layer, shape, or of fewer than 2 inputs.
        """
        shape = tuple(R.shape[1:])
        sequence = layout.kind == "sequence" and name in statistics
        longest = statistics.shape(name)[0] if sequence else 0
        statistics.require(name, (max(shape[0], longest), *shape[1:]))

        def fitting(values: Tensor) -> Tensor:
            values = values[: shape[0]] if sequence else values
            return values.to(R.device, torch.float32).unsqueeze(0)

        return Prior(
            fitting(statistics.mean(name)),
            fitting(statistics.std(name, min_std)),
            fitting(statistics.active(name, INACTIVE_SHARE)) if mask_inactive else None,
        )

    @staticmethod
    def standard(R: Tensor, variance: float = 1.0) -> Prior:
        """N(0, σ²), M2IB's noise and prior (Wang et al., section 3.3)."""
        zero = torch.zeros((), dtype=torch.float32, device=R.device)
        return Prior(zero, torch.full_like(zero, variance**0.5))


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

    def branch(self, number: int) -> NoiseStream:
        """Another stream of the same shapes; equal numbers of equal seeds give equal streams."""
        return NoiseStream(
            block_seed(self.seed, number, len(self.shapes), -1),
            self.shapes,
            self.n_samples,
            self.antithetic,
            self.device,
            self.sequences,
        )

    def draw(self) -> list[Tensor]:
        """The draws of the next step: per bottleneck a float32 tensor ``(S, *shape)``."""
        fresh = (self.n_samples + 1) // 2 if self.antithetic else self.n_samples
        draws = [
            self._positions(index, fresh, shape)
            if self.sequences[index]
            else self._normal(self._generator, fresh, shape)
            for index, shape in enumerate(self.shapes)
        ]
        self._step += 1
        if not self.antithetic:
            return draws
        pairs = [torch.stack([noise, -noise], dim=1).flatten(0, 1) for noise in draws]
        return [pair[: self.n_samples] for pair in pairs]

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
