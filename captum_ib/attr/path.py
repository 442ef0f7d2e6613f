"""Points and weights of an integral along a straight path, by Captum's approximations."""

from __future__ import annotations

from dataclasses import dataclass

from captum.attr._utils.approximation_methods import (  # pyright: ignore[reportMissingTypeStubs]
    approximation_parameters,
)

from captum_ib.checks import require_choice, require_count

METHODS = (
    "riemann_right",
    "riemann_left",
    "riemann_middle",
    "riemann_trapezoid",
    "gausslegendre",
)


@dataclass(frozen=True)
class Path:
    """Points λ_k ∈ [0, 1] of the path and their weights in the integral.

    >>> Path.of(2, "riemann_right").points
    [0.5, 1.0]
    """

    points: list[float]
    weights: list[float]

    @staticmethod
    def of(n_steps: int, method: str, power: float = 1.0) -> Path:
        """Captum's approximation of that name with so many steps.

        With ``power`` p the points are spaced evenly in λ^(1/p): the integral is the same, and
        points crowd at the baseline, where a model with layer normalisation changes fastest.

        Raises:
            TypeError, ValueError: bad ``n_steps`` or ``power``, or an unknown method.
        """
        require_choice("method", method, METHODS)
        least = 1 if method == "gausslegendre" else 2
        if require_count("n_steps", n_steps) < least:
            raise ValueError(f"n_steps must be at least {least} for {method}, given {n_steps}")
        if not 1.0 <= power < float("inf"):
            raise ValueError(f"power must be at least 1 and finite, given {power}")
        weights_of, points_of = approximation_parameters(method)
        even = [float(point) for point in points_of(n_steps)]
        weights = [
            float(weight) * power * point ** (power - 1)
            for weight, point in zip(weights_of(n_steps), even, strict=True)
        ]
        return Path([point**power for point in even], weights)
