"""Optimise matrices with Muon: steps that change every direction of a matrix equally.

Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with the step size
of Liu et al., "Muon is scalable for LLM training" (2025): a step has the root mean square of 0.2 of
the learning rate, about that of AdamW, so both take rates of the same order.

``torch.optim.Muon`` (torch >= 2.9) has the same formulas and rounds to bfloat16 on the way, which
changes a step by about 1 % where the gradient has full rank and by 10 to 15 % where it has not: the
weights in the package come from this one, in float32, and would not come out of torch's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

# Jordan et al.: a quintic polynomial that takes singular values in (0, 1] to about 1 in five steps.
_QUINTIC = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """The matrix with its singular values brought close to 1 (between about 0.7 and 1.2).

    Args:
        matrix: ``(m, n)``.

    Returns:
        ``(m, n)``.
    """
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    result = wide / wide.norm().clamp(min=1e-7)
    a, b, c = _QUINTIC
    for _ in range(_ITERATIONS):
        gram = result @ result.T
        result = a * result + (b * gram + c * gram @ gram) @ result
    return result if wide is matrix else result.T


class Muon(Optimizer):
    """Momentum, orthogonalised, with decoupled weight decay; for matrices only.

    Args:
        params: Matrices, or groups of them.
        lr: Learning rate, of the order of AdamW's.
        momentum: Decay of the momentum (Jordan et al.: 0.95, with Nesterov's look-ahead).
        weight_decay: As AdamW's.

    Raises:
        ValueError: If a parameter is no matrix.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim != 2:
                    raise ValueError(
                        f"Muon takes matrices; got a parameter of shape {tuple(parameter.shape)}. "
                        f"Give it to AdamW."
                    )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Change every matrix that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._change(parameter, parameter.grad, group)
        return loss

    def _change(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        average = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        step = orthogonalise(gradient.lerp(average, group["momentum"]))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(step, alpha=-group["lr"] * 0.2 * max(parameter.shape) ** 0.5)
