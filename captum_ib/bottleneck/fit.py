"""The one optimisation loop that every bottleneck method shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ib.bottleneck.noise import NoiseStream

Evaluate = Callable[[list[Tensor]], tuple[Tensor, Tensor]]
"""Draws of some noise samples → (fit term, compression term), each ``(draws, N)``, in nats."""


@dataclass(frozen=True)
class FitSettings:
    """Settings of the optimisation.

    Attributes:
        n_steps: evaluations of the loss; α after ``n_steps`` − 1 updates is the result, which is
            the last α whose loss the authors' loops evaluate.
        n_samples: noise draws per step.
        antithetic: draw ε and −ε in pairs.
        lr: Adam's learning rate for α (Schulz et al.: 1).
        draws_per_pass: at most so many draws go through the model at once; ``None``: all.
    """

    n_steps: int = 10
    n_samples: int = 4
    antithetic: bool = True
    lr: float = 1.0
    draws_per_pass: int | None = None

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_samples"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} must be an int, given {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, given {value}")
        if not self.lr > 0 or self.lr == float("inf"):
            raise ValueError(f"lr must be positive and finite, given {self.lr}")


@dataclass(frozen=True)
class FitTrace:
    """The record of a fit: what Fig. 9 of the CoIBA paper plots.

    Each field is a float32 tensor ``(n_steps, N)`` in nats: ``fit`` is the objective, averaged
    over the draws, ``compression`` is β times the mean information, ``loss`` their sum.
    """

    loss: Tensor
    fit: Tensor
    compression: Tensor

    @staticmethod
    def stack(fit: Sequence[Tensor], compression: Sequence[Tensor]) -> FitTrace:
        """Traces from the per-step terms, ``(N,)`` each."""
        fits, compressions = torch.stack(list(fit)), torch.stack(list(compression))
        return FitTrace(fits + compressions, fits, compressions)

    @staticmethod
    def concatenate(traces: Sequence[FitTrace]) -> FitTrace:
        """One trace for the samples of several."""
        return FitTrace(
            *(
                torch.cat([getattr(trace, name) for trace in traces], dim=1)
                for name in ("loss", "fit", "compression")
            )
        )


def fit(
    groups: Sequence[dict],
    evaluate: Evaluate,
    noise: NoiseStream,
    settings: FitSettings,
    evaluate_last: bool,
    on_step: Callable[[], object] | None = None,
) -> FitTrace | None:
    """Minimise fit + compression over the given parameters, in place, with Adam.

    The loss is the mean over draws and the sum over samples, so samples never influence each
    other. Gradients are taken with ``torch.autograd.grad``: no ``.grad`` of the model is written.

    Args:
        groups: Adam's parameter groups, ``{"params": [...], "lr": …}`` (``lr`` defaults to
            ``settings.lr``).
        evaluate: the two terms for a list of draws (one tensor ``(draws, *shape)`` per bottleneck).
        noise: where the draws come from.
        settings: steps, draws, learning rate.
        evaluate_last: whether to evaluate the loss at the final parameters too. The result does
            not need it, the trace does.
        on_step: called after each step (progress).

    Returns:
        The trace when ``evaluate_last``, else ``None``.

    Raises:
        RuntimeError: when the loss stops being finite, naming the step.
    """
    groups = [{"lr": settings.lr, **group} for group in groups]
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.Adam(groups, lr=settings.lr)
    fits: list[Tensor] = []
    compressions: list[Tensor] = []
    for step in range(settings.n_steps):
        last = step == settings.n_steps - 1
        if not last or evaluate_last:
            terms, gradients = _loss(
                parameters, evaluate, noise.draw(), settings, differentiate=not last
            )
            _require_finite(terms, step)
            fits.append(terms[0])
            compressions.append(terms[1])
            if not last:
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
        if on_step is not None:
            on_step()
    return FitTrace.stack(fits, compressions) if evaluate_last else None


def _loss(
    parameters: Sequence[Tensor],
    evaluate: Evaluate,
    draws: list[Tensor],
    settings: FitSettings,
    differentiate: bool,
) -> tuple[tuple[Tensor, Tensor], list[Tensor]]:
    """Both terms per sample, ``(N,)``, and the loss's gradient, a few draws at a time."""
    n_samples = settings.n_samples
    total: tuple[Tensor, Tensor] | None = None
    gradients: list[Tensor] = []
    for part in _chunks(draws, settings.draws_per_pass or n_samples):
        with torch.set_grad_enabled(differentiate):
            terms = [term.float().sum(dim=0) / n_samples for term in evaluate(part)]
        if differentiate:
            new = torch.autograd.grad((terms[0] + terms[1]).sum(), parameters)
            gradients = (
                [a + b for a, b in zip(gradients, new, strict=True)] if gradients else [*new]
            )
        detached = (terms[0].detach(), terms[1].detach())
        total = detached if total is None else (total[0] + detached[0], total[1] + detached[1])
    if total is None:
        raise RuntimeError("a step of the fit had no noise draw")
    return total, gradients


def _chunks(draws: list[Tensor], size: int) -> Iterator[list[Tensor]]:
    for parts in zip(*(draw.split(size) for draw in draws), strict=True):
        yield list(parts)


def _require_finite(terms: tuple[Tensor, Tensor], step: int) -> None:
    finite = torch.isfinite(terms[0] + terms[1])
    if not bool(finite.all()):
        samples = (~finite).nonzero().flatten().tolist()
        raise RuntimeError(
            f"the bottleneck's loss is not finite at step {step} for sample(s) {samples}: the "
            "model's output overflows or is NaN when noise is added at the layer; try float32 "
            "or bfloat16, a smaller lr, or another layer"
        )
