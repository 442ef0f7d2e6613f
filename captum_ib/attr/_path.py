"""The straight path from a baseline to a layer's activation, and the gradients' integral on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor

from captum_ib.forward.call import select
from captum_ib.hooks import Session

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
        if isinstance(n_steps, bool) or not isinstance(n_steps, int):
            raise TypeError(f"n_steps must be an int, given {type(n_steps).__name__}")
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, given {method!r}")
        least = 1 if method == "gausslegendre" else 2
        if n_steps < least:
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


def integrate(
    session: Session,
    baseline: Tensor,
    path: Path,
    index: Tensor | None,
    steps_at_once: int,
    on_step: Callable[[int], object] | None = None,
) -> Tensor:
    """∫ ∂F/∂z̃ · (z − b) dλ at the session's one layer, layer-shaped, float32.

    ``steps_at_once`` points of all samples go through the model as one batch.
    """
    activation = session.activations[0]
    n = activation.shape[0]
    direction = activation.float() - baseline
    total = torch.zeros_like(direction)
    for start in range(0, len(path.points), steps_at_once):
        points = torch.tensor(path.points[start : start + steps_at_once], device=total.device)
        weights = torch.tensor(path.weights[start : start + steps_at_once], device=total.device)
        scale = points.reshape(-1, *[1] * activation.ndim)
        state = (baseline + scale * direction).flatten(0, 1).to(activation.dtype)
        gradient = _gradient(session, state, len(points), index)
        parts = gradient.float().unflatten(0, (len(points), n))
        total += torch.einsum("k,k...->...", weights, parts)
        if on_step is not None:
            on_step(len(points))
    return total * direction


def _gradient(session: Session, state: Tensor, repeats: int, index: Tensor | None) -> Tensor:
    state = state.detach().requires_grad_()
    output = session.run(repeats, lambda _, activation: state.clone())
    (gradient,) = torch.autograd.grad(select(output, index).sum(), state)
    return gradient


def value_at(session: Session, state: Tensor, index: Tensor | None) -> Tensor:
    """F at a layer state, ``(N,)``."""
    with torch.no_grad():
        return select(session.run(1, lambda _, activation: state.to(activation.dtype)), index)
