"""NIB's path: its points and weights, by Captum's approximations, and where it starts."""

# torch does not type tolist; baselines come in many forms.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from numbers import Real
from typing import Any, NamedTuple

from captum.attr._utils.approximation_methods import (  # pyright: ignore[reportMissingTypeStubs]
    approximation_parameters,
)
from torch import Tensor

from captum_ib.checks import broadcast, require_choice, require_count
from captum_ib.layout import TokenLayout

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

        The trapezoid's weights are 1/(n − 1), at the ends half of it; Captum's 1/n make every
        integral 1/n too small. Points of weight 0 (λ = 0 with ``power`` > 1) are left out.

        >>> Path.of(3, "riemann_trapezoid").weights
        [0.25, 0.5, 0.25]

        Raises:
            TypeError, ValueError: bad ``n_steps`` or ``power``, or an unknown method.
        """
        require_choice("method", method, METHODS)
        least = 1 if method == "gausslegendre" else 2
        if require_count("n_steps", n_steps) < least:
            raise ValueError(f"n_steps must be at least {least} for {method}, given {n_steps}")
        if not isinstance(power, Real):
            raise TypeError(f"power must be a number, given {type(power).__name__}")
        if not 1.0 <= power < float("inf"):
            raise ValueError(f"power must be at least 1 and finite, given {power}")
        weights_of, points_of = approximation_parameters(method)
        even = [float(point) for point in points_of(n_steps)]
        scale = n_steps / (n_steps - 1) if method == "riemann_trapezoid" else 1.0
        weights = [
            float(weight) * scale * power * point ** (power - 1)
            for weight, point in zip(weights_of(n_steps), even, strict=True)
        ]
        used = [
            (point**power, weight) for point, weight in zip(even, weights, strict=True) if weight
        ]
        return Path([point for point, _ in used], [weight for _, weight in used])


STEEPEST = 10.0
"""How large the term of λ = 0 may be beside the largest of the other points. Behind a normalisation
it is a thousand times as large and more; at ten, the first step is wrong by a factor of three."""


def require_even(path: Path, sizes: Tensor, name: str) -> None:
    """Check that the term of λ = 0, if there is one, does not outweigh all the others.

    Behind a normalisation the gradient at the baseline 0 is 1/√ε: true, but only for λ below √ε,
    while the sum takes it for the whole first step.

    Args:
        path: the points.
        sizes: Σ|∂F/∂z̃ · (z − b)| per point and sample, ``(K, N)``.
        name: of the layer.

    Raises:
        ValueError: when it does, or is not finite.
    """
    if path.points[0] > 0.0 or len(path.points) < 2:
        return
    first, others = sizes[0], sizes[1:].amax(dim=0)
    steep = ~(first <= STEEPEST * others)  # NaN is steep, too
    if bool(steep.any()):
        worst = float((first / others)[steep].max())
        raise ValueError(
            f"at layer {name} the gradient at the baseline (λ = 0) is {worst:.3g} times as large "
            f"as at any other point, for sample(s) {steep.nonzero().flatten().tolist()}, as behind "
            "a normalisation, and would be taken for a whole step; use "
            'method="riemann_right", "riemann_middle" or "gausslegendre", which leave λ = 0 out, '
            "or power=4"
        )


def require_whole(A: Tensor, z: Tensor, layout: TokenLayout, name: str) -> None:
    """Check that a map belongs to a layer and holds all that the layer's positions got.

    Args:
        A: the map.
        z: the layer's activation, ``(N, …)``.
        layout: its axes.
        name: of the layer.

    Raises:
        ValueError: when it does not.
    """
    by_position = tuple(layout.attribution(z).shape)
    if tuple(A.shape) not in (tuple(z.shape), by_position):
        raise ValueError(
            f"attributions of shape {tuple(A.shape)} are no map at layer {name}: expected "
            f"{by_position}, or {tuple(z.shape)} with reduce='none'"
        )
    if A.shape != z.shape and (layout.prefix or layout.suffix):
        raise ValueError(
            f"the map at layer {name} leaves out {layout.prefix + layout.suffix} token(s), whose "
            "part of the sum is not known; give the map of reduce='none', or call "
            "attribute(..., return_convergence_delta=True)"
        )


class Start(NamedTuple):
    """Where the path starts, as the user gave it: rows of a call with ``n`` samples."""

    baseline: Any
    rows: slice
    n: int


def called(baselines: Any, inputs: Any) -> Any:
    """Baselines, or what a function gives that returns them: of no argument, or of the inputs.

    As Captum takes them, also in a tuple of one.
    """
    if callable(baselines) and not isinstance(baselines, Tensor):
        baselines = baselines() if not signature(baselines).parameters else baselines(inputs)
    if isinstance(baselines, (tuple, list)):
        values = [called(one, inputs) for one in baselines]
        return values[0] if len(values) == 1 else tuple(values)
    return baselines


def baseline_at(start: Start, z: Tensor, name: str) -> Tensor:
    """b at a layer, shaped like its activation, float32.

    Raises:
        TypeError, ValueError: as in :func:`captum_ib.checks.broadcast`.
    """
    value = start.baseline
    if isinstance(value, Tensor) and value.ndim == z.ndim and len(value) == start.n:
        value = value[start.rows]
    return broadcast(value, z.float(), f"the activation of layer {name}")
