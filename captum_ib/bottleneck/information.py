"""Information that passes a Gaussian bottleneck: the KL divergence in nats, converted to bits."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

NATS_PER_BIT = math.log(2.0)


class Gate(NamedTuple):
    """A damping ratio λ in the three forms that the bottleneck needs, each exact where it matters.

    ``keep`` is λ, ``drop`` is 1 − λ and ``log_drop`` is log(1 − λ); all three have the same shape,
    broadcastable to ``(N, *layer_shape)``. ``log_drop`` is computed from α directly, since
    ``log(1 - keep)`` is −inf as soon as float32 rounds λ to 1 (at α ≈ 17).
    """

    keep: Tensor
    drop: Tensor
    log_drop: Tensor


def gate_from_logit(alpha: Tensor) -> Gate:
    """λ = sigmoid(α) as a :class:`Gate`.

    >>> gate = gate_from_logit(torch.tensor([0.0, 90.0]))
    >>> gate.keep.tolist(), [round(v, 4) for v in gate.log_drop.tolist()]
    ([0.5, 1.0], [-0.6931, -90.0])
    """
    return Gate(torch.sigmoid(alpha), torch.sigmoid(-alpha), torch.nn.functional.logsigmoid(-alpha))


def gaussian_kl(normalized: Tensor, gate: Gate) -> Tensor:
    """KL[N(λR + (1−λ)μ, ((1−λ)σ)²) ‖ N(μ, σ²)] per element, in **nats**.

    Schulz et al. (ICLR 2020), appendix; with R̂ = (R − μ)/σ it is
    ½((λR̂)² + (1−λ)² − 1) − log(1−λ).

    Args:
        normalized: R̂, any shape that broadcasts with the gate.
        gate: the damping ratio.

    Returns:
        Tensor of the broadcast shape, ≥ 0 up to rounding (about 1e-7).

    >>> gaussian_kl(torch.tensor(2.0), gate_from_logit(torch.tensor(0.0))).item()  # λ = ½
    0.8181...
    """
    signal = (gate.keep * normalized).square()
    return 0.5 * (signal + gate.drop.square() - 1.0) - gate.log_drop


def to_bits(nats: Tensor) -> Tensor:
    """Nats → bits, with the rounding error below zero cut off, so that the result is ≥ 0.

    >>> to_bits(torch.tensor([NATS_PER_BIT, -1e-8])).tolist()
    [1.0, 0.0]
    """
    return (nats / NATS_PER_BIT).clamp_min(0.0)
