"""Fits that run until they have converged, along a path of β."""

# torch.autograd.grad is not typed.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ib.attr.fitting import Bottlenecks
from captum_ib.bottleneck import FitSettings, NoiseStream, to_bits
from captum_ib.bottleneck.quadratic import Cost, alpha_of
from captum_ib.curve.result import Point
from captum_ib.forward import Tick, TowerCall, predicted

START = 0.5
"""r at the start of a path: as much noise as signal everywhere, so that no position is ahead."""

MEMORY = 5
"""Passes over which the curvature is averaged at first; later over all passes but the first."""

EARLY = 15
"""Passes at a new β that are left out of that later average."""

STEADY = 3
"""So many passes in a row must change a sample's bits by less than the tolerance."""


@dataclass(frozen=True)
class Criterion:
    """When a fit has converged.

    Attributes:
        tolerance: relative change of the bits per pass.
        passes: at most so many at the first β of a way, and a third of them at each other one,
            which starts from the one before.
        judged: steps of draws on which all candidates are compared.
    """

    tolerance: float = 0.005
    passes: int = 30
    judged: int = 4

    def most(self, first: bool) -> int:
        """Passes at one β, the first of a way or another."""
        return self.passes if first else -(-self.passes // 3)

    def at_most(self, betas: int) -> int:
        """Passes of a way of so many β."""
        return self.most(True) + (betas - 1) * self.most(False)


class Walk:
    """Some samples of a call, while β moves.

    Args:
        problem: the method's bottlenecks, built with β = 1.
        noise: where the draws come from.
        fitting: draws per pass.
        criterion: when to stop.
        tick: called after every pass.
    """

    def __init__(
        self,
        problem: Bottlenecks,
        noise: NoiseStream,
        fitting: FitSettings,
        criterion: Criterion,
        tick: Tick | None,
    ) -> None:
        self.problem, self.noise, self.criterion, self.tick = problem, noise, criterion, tick
        self.at_once = fitting.draws_per_pass or fitting.n_samples
        (self.alpha,) = problem.damping.alphas
        self.common = [noise.draw() for _ in range(criterion.judged)]
        self.cost = self._cost()
        self.passes = self.settled = 0
        self.restart()

    def restart(self) -> None:
        """Forget the way so far."""
        self.rest = torch.full_like(self.alpha.data, START)
        self.h: Tensor | None = None

    def settle(self, beta: Tensor) -> Tensor:
        """r after convergence at β ``(N,)``, from where the walk stands.

        h̄ is a running mean of the curvature h, and r the minimum of the model with h̄. What has
        converged stays as it is, so that samples don't wait for each other.
        """
        self.settled += 1
        noise = self.noise.branch(self.settled)  # however many passes were needed before
        weight = self._per_sample(beta)
        steady = torch.zeros(len(self.rest), device=self.rest.device)
        for step in range(self.criterion.most(first=self.h is None)):
            going = self._per_sample(steady < STEADY)
            h = self.curvature(self.rest, noise.draw())
            recent = MEMORY if step < EARLY + MEMORY else step - EARLY
            last = h if self.h is None else self.h
            self.h = torch.where(going, last + (h - last) / min(recent, step + 2), last)
            before = self.cost.nats(self.rest)
            self.rest = torch.where(going, self.cost.optimum(self.h, weight), self.rest)
            change = (self.cost.nats(self.rest) - before).abs()
            small = change <= self.criterion.tolerance * (before + 1e-6)
            steady = torch.where(small | (steady >= STEADY), steady + 1, 0.0)
            if bool((steady >= STEADY).all()):
                break
        return self.rest

    def curvature(self, rest: Tensor, draws: list[Tensor]) -> Tensor:
        """h = (∂objective/∂r)/r at r, the mean over the draws of one pass."""
        self._put(rest)
        total = torch.zeros_like(rest)
        for part in self._in([draws]):
            objective = self.problem.loss(part).fit.float().sum() / len(draws[0])
            total += torch.autograd.grad(objective, self.alpha)[0]
        self.passes += 1
        if self.tick is not None:
            self.tick()
        if not bool(torch.isfinite(total).all()):
            raise RuntimeError(
                "the objective's slope is not finite: the model's output overflows or is NaN when "
                "noise is added at the layer; try float32 or bfloat16, or another layer"
            )
        lam = torch.sigmoid(self.alpha.data)
        return -total / (lam * rest) / rest  # dλ/dα = λr

    def judge(self, rest: Tensor) -> Point:
        """What is lost and kept at r, on the common draws."""
        scores = self.scores(rest, self.common)
        with torch.no_grad():
            fits = torch.cat(
                [self.problem.loss(part).fit.float() for part in self._in(self.common)]
            )
            bits = to_bits(self.problem.information()[0])
        return Point(
            rest.clone(),
            fits.mean(dim=0),
            self.cost.nats(rest),
            scores.mean(dim=0),
            self.problem.layers.layouts[0].attribution(bits),
            bits.flatten(1).sum(dim=1),
        )

    def scores(self, rest: Tensor, steps: Sequence[list[Tensor]]) -> Tensor:
        """The explained value at r, ``(draws, N)``."""
        return torch.cat([self.score(output) for output in self._outputs(rest, steps)])

    def score(self, output: Tensor) -> Tensor:
        """Probability of the target, or the scalar output, ``(draws, N)``."""
        layers = self.problem.layers
        return layers.by_draw(layers.call.score(output.float(), probability=True))

    @property
    def clean(self) -> Tensor:
        """f(R), the output without noise."""
        return self.problem.layers.session.output

    @property
    def classes(self) -> Tensor | None:
        """The target as indices into the classes; ``None``: the output has none."""
        call = self.problem.layers.call
        return None if isinstance(call, TowerCall) else call.index(self.clean)

    def stays(self, rest: Tensor, steps: Sequence[list[Tensor]], index: Tensor) -> Tensor:
        """Draws ``(draws, N)`` in which the predicted class stays."""
        call, clean = self.problem.layers.call, self.clean
        axis = call.class_axis(clean)
        before = predicted(clean, index, axis)
        by_draw = self.problem.layers.by_draw
        outputs = self._outputs(rest, steps)
        return torch.cat([by_draw(predicted(one, index, axis)) == before for one in outputs])

    @torch.no_grad()
    def _outputs(self, rest: Tensor, steps: Sequence[list[Tensor]]) -> list[Tensor]:
        """f(Z) at r, ``(draws · N, …)`` each."""
        self._put(rest)
        layers, damping = self.problem.layers, self.problem.damping

        def output(draws: list[Tensor]) -> Tensor:
            return layers.run(
                lambda at, R: layers.channels[at].pass_on(R, damping(at), draws[at]), len(draws[0])
            )

        return [output(part) for part in self._in(steps)]

    def _in(self, steps: Iterable[list[Tensor]]) -> Iterator[list[Tensor]]:
        """The draws of some steps, as many at once as may go through the model."""
        for draws in steps:
            for part in zip(*(draw.split(self.at_once) for draw in draws), strict=True):
                yield list(part)

    def _put(self, rest: Tensor) -> None:
        self.alpha.data.copy_(alpha_of(rest))

    def _per_sample(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *[1] * (self.alpha.ndim - 1))

    def _compression(self, rest: Tensor) -> Tensor:
        """β · KL ``(N,)`` of the method itself at r, with its gradient."""
        self._put(rest)
        found = self.problem.loss([draw[:1] for draw in self.common[0]]).compression
        return found if found.ndim == 1 else found[0]

    def _slope(self, share: float) -> Tensor:
        rest = torch.full_like(self.alpha.data, share)
        nats = self._compression(rest).sum()
        return -torch.autograd.grad(nats, self.alpha)[0] / (share * (1 - share))

    def _cost(self) -> Cost:
        """C and S of every entry, seen in the method's own KL, and checked at another point.

        Raises:
            ValueError: the KL is no sum over the entries of α.
        """
        cost = Cost.from_slopes(self._slope(0.5), self._slope(0.25))
        places = torch.arange(self.alpha[0].numel(), device=self.alpha.device)
        uneven = (0.1 + 0.8 * (places * 0.618034 % 1)).reshape(self.alpha[0].shape)
        rest = uneven.expand_as(self.alpha.data).contiguous()
        with torch.no_grad():
            said = self._compression(rest)
        if not torch.allclose(said, cost.nats(rest), rtol=1e-3, atol=1e-5):
            raise ValueError(
                "the information is no sum over the positions, since λ is smoothed or averaged "
                "over them, so it has no step in closed form; pass smoothing=None, or layers of "
                "one resolution"
            )
        return cost
