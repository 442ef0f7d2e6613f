"""The one optimisation loop that every bottleneck method shares."""

# torch does not type the groups and steps of its optimisers, split and tolist.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from captum_ib.bottleneck.noise import NoiseStream
from captum_ib.checks import require_count, require_weight


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
        require_count("n_steps", self.n_steps)
        require_count("n_samples", self.n_samples)
        require_weight("lr", self.lr, positive=True)


class Terms(NamedTuple):
    """The loss of one pass, in nats.

    Attributes:
        fit: the objective, ``(draws, N)``.
        compression: β times the mean information, ``(N,)`` or ``(draws, N)``.
        information: per compressed layer, per element, ``(draws, N, *layer_shape)``, where it
            depends on the draw; else empty.
    """

    fit: Tensor
    compression: Tensor
    information: Sequence[Tensor] = ()


class Problem(Protocol):
    """What a method asks the fit to solve."""

    def parameters(self) -> Sequence[dict[str, Any]]:
        """Adam's groups, ``{"params": [...], "lr": …}``; without ``lr`` that of the settings."""
        ...

    def loss(self, draws: list[Tensor], /) -> Terms:
        """The loss for some noise draws, one tensor ``(draws, *layer_shape)`` per bottleneck."""
        ...


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
    def concatenate(traces: Sequence[FitTrace]) -> FitTrace:
        """One trace for the samples of several."""
        fields = zip(*((t.loss, t.fit, t.compression) for t in traces), strict=True)
        return FitTrace(*(torch.cat(values, dim=1) for values in fields))


@dataclass(frozen=True)
class Fit:
    """What a fit found, beside the parameters that it changed in place.

    Attributes:
        trace: the record; ``None`` unless the last loss was evaluated.
        information: per compressed layer, at the last loss, the mean over the draws, ``(N, …)``;
            empty where the loss gave none.
    """

    trace: FitTrace | None
    information: list[Tensor]


def fit(
    problem: Problem,
    noise: NoiseStream,
    settings: FitSettings,
    evaluate_last: bool,
    on_step: Callable[[], object] | None = None,
) -> Fit:
    """Minimise fit + compression over a problem's parameters, in place, with Adam.

    The loss is the mean over draws and the sum over samples, so samples never influence each
    other. Gradients are taken with ``torch.autograd.grad``: no ``.grad`` of the model is written.

    Args:
        problem: the parameters and the loss.
        noise: where the draws come from.
        settings: steps, draws, learning rate.
        evaluate_last: whether to evaluate the loss at the final parameters too. α does not need
            it, the trace and information that depends on the draws do.
        on_step: called after each step (progress).

    Raises:
        RuntimeError: when the loss stops being finite, naming the step.
    """
    groups: list[dict[str, Any]] = [{"lr": settings.lr, **group} for group in problem.parameters()]
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.Adam(groups, lr=settings.lr)
    steps: list[Terms] = []
    for step in range(settings.n_steps):
        last = step == settings.n_steps - 1
        if not last or evaluate_last:
            terms, gradients = _loss(problem, parameters, noise.draw(), settings, not last)
            _require_finite(terms, step)
            steps.append(terms)
            if not last:
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter.grad = gradient
                optimizer.step()
        if on_step is not None:
            on_step()
    if not evaluate_last:
        return Fit(None, [])
    fits = torch.stack([terms.fit for terms in steps])
    compressions = torch.stack([terms.compression for terms in steps])
    return Fit(FitTrace(fits + compressions, fits, compressions), list(steps[-1].information))


def _loss(
    problem: Problem,
    parameters: Sequence[Tensor],
    draws: list[Tensor],
    settings: FitSettings,
    differentiate: bool,
) -> tuple[Terms, list[Tensor]]:
    """The terms' means over the draws, per sample, and the loss's gradient, in parts."""
    found: list[Tensor] = []
    gradients: list[Tensor] = []
    size = settings.draws_per_pass or settings.n_samples
    for part in zip(*(draw.split(size) for draw in draws), strict=True):
        with torch.set_grad_enabled(differentiate):
            terms = problem.loss(list(part))
            fits = terms.fit.float()
            compression = terms.compression.float().expand_as(fits)
            share = [value.sum(dim=0) / settings.n_samples for value in (fits, compression)]
        if differentiate:
            new = torch.autograd.grad((share[0] + share[1]).sum(), parameters)
            gradients = [a + b for a, b in zip(gradients or [0] * len(new), new, strict=True)]
        share += [nats.detach().sum(dim=0) / settings.n_samples for nats in terms.information]
        share = [value.detach() for value in share]
        found = [a + b for a, b in zip(found, share, strict=True)] if found else share
    return Terms(found[0], found[1], found[2:]), gradients


def _require_finite(terms: Terms, step: int) -> None:
    finite = torch.isfinite(terms.fit + terms.compression)
    if not bool(finite.all()):
        samples = (~finite).nonzero().flatten().tolist()
        raise RuntimeError(
            f"the bottleneck's loss is not finite at step {step} for sample(s) {samples}: the "
            "model's output overflows or is NaN when noise is added at the layer; try float32 "
            "or bfloat16, a smaller lr, or another layer"
        )
