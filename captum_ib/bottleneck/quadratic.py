"""The trade of a bottleneck in closed form: the KL exactly, the objective by a quadratic model.

With r = 1 − λ the noise's share, the mean KL of :func:`~captum_ib.bottleneck.channel.gaussian_kl`
is a sum over the entries of α,

    KL(r) = Σ_i ½(S_i(1 − r_i)² + C_i(r_i² − 1)) − C_i log r_i,

C_i counting the elements that share r_i and S_i adding up their R̂², both over all elements that
count. The objective changes with the noise's variance, r²: near a point it is about ½ Σ_i h_i r_i²
with h_i = (∂objective/∂r_i) / r_i. Its sum with β · KL has its minimum where

    (h_i + β(S_i + C_i)) r_i² − βS_i r_i − βC_i = 0.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

LEAST_REST = 1e-4
"""Smallest r: the noise is then a ten-thousandth of the activation's, 13 bits per element."""


@dataclass(frozen=True)
class Cost:
    """What information costs, per entry of α.

    Attributes:
        C: elements that share the entry, as a part of all that count.
        S: the sum of their R̂², as a part of the same number.

    >>> import torch
    >>> cost = Cost(torch.ones(1, 1), torch.ones(1, 1))
    >>> cost.optimum(torch.zeros(1, 1), torch.ones(1, 1)).item()  # noise costs nothing
    1.0
    """

    C: Tensor
    S: Tensor

    @staticmethod
    def from_slopes(half: Tensor, quarter: Tensor) -> Cost:
        """C and S from ∂KL/∂r at r = ½ and r = ¼.

        ∂KL/∂r = −S(1 − r) + Cr − C/r is −½S − 1½C at ½ and −¾S − 3¾C at ¼.
        """
        C = (1.5 * half - quarter) / 1.5
        S = -2.0 * half - 3.0 * C
        return Cost(C.clamp_min(0.0), S.clamp_min(0.0))

    def nats(self, rest: Tensor) -> Tensor:
        """The mean KL per sample, ``(N,)``, at r."""
        entries = 0.5 * (self.S * (1 - rest).square() + self.C * (rest.square() - 1))
        return (entries - self.C * rest.log()).flatten(1).sum(dim=1)

    def optimum(self, h: Tensor, beta: Tensor) -> Tensor:
        """The r that minimises ½ Σ h r² + β · KL(r), per entry, from ``LEAST_REST`` to 1.

        Args:
            h: curvature; where it is negative, noise does no harm and it counts as 0.
            beta: β > 0, broadcastable.
        """
        A = h.clamp_min(0.0) + beta * (self.S + self.C)
        B, D = beta * self.S, beta * self.C
        root = (B + (B.square() + 4 * A * D).sqrt()) / (2 * A.clamp_min(1e-30))
        return root.clamp(LEAST_REST, 1.0)


def alpha_of(rest: Tensor) -> Tensor:
    """α with 1 − sigmoid(α) = r; at r = 1 it is −16 (λ about 1e-7), where the slope survives.

    >>> import torch
    >>> round(alpha_of(torch.tensor(0.5)).item(), 6)
    0.0
    """
    lam = (1.0 - rest).clamp_min(1.1253516e-07)
    return lam.log() - rest.log()
