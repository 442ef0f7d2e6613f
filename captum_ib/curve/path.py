"""The path of β: up, down, and between its points until a share of the confidence is met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from captum_ib.attr.fitting import Bottlenecks
from captum_ib.bottleneck import Fit, FitSettings, NoiseStream
from captum_ib.bottleneck.quadratic import alpha_of
from captum_ib.curve.result import Curve, Point
from captum_ib.curve.solver import Criterion, Walk
from captum_ib.forward import Tick
from captum_ib.metrics.certificate import wilson

COMPETING = 0.9
"""Two solutions compete where their maps correlate less …"""

CLOSE = 0.05
"""… and their losses differ by less, relatively."""

HALVINGS = 3
"""Bisections of log β between the two points of the path next to the share."""


@dataclass
class PathSolver:
    """Solves a method's fit at every β of a path; a :data:`~captum_ib.attr.fitting.Solve`.

    Attributes:
        betas: the path, rising.
        keep: share of the explained value to keep; ``None``: the solution at the last β.
        n_draws: fresh draws of the certificate.
        criterion: when a fit has converged.
        curves: one per part of a call, in order.
    """

    betas: Sequence[float]
    keep: float | None
    n_draws: int
    criterion: Criterion
    curves: list[Curve] = field(default_factory=list[Curve])

    def __call__(
        self, problem: Bottlenecks, noise: NoiseStream, fitting: FitSettings, tick: Tick | None
    ) -> Fit:
        """Leave α where ``keep`` is met with the fewest bits, and keep the curve."""
        walk = Walk(problem, noise, fitting, self.criterion, tick)
        n = problem.layers.call.n
        betas = torch.tensor(self.betas, device=walk.rest.device)
        up = [walk.judge(walk.settle(beta.expand(n))) for beta in betas]
        walk.restart()
        down = [walk.judge(walk.settle(beta.expand(n))) for beta in betas.flip(0)][::-1]
        share, floor = _share(walk)
        best = [_least(beta, up + down) for beta in betas]
        keep = self.keep
        if keep is None:
            chosen, reached = best[-1], torch.ones(n, dtype=torch.bool)
        else:
            found = up + down + _between(walk, betas, best, share, keep)
            chosen, reached = _fewest(found, share, keep)
        problem.damping.alphas[0].data.copy_(alpha_of(chosen.rest))
        self.curves.append(
            self._curve(walk, betas, best, (up, down), chosen, reached, share, floor)
        )
        return Fit(None, [])

    def _curve(
        self,
        walk: Walk,
        betas: Tensor,
        best: Sequence[Point],
        ways: tuple[Sequence[Point], Sequence[Point]],
        chosen: Point,
        reached: Tensor,
        share: Callable[[Tensor], Tensor],
        floor: Tensor,
    ) -> Curve:
        kept = torch.stack([share(point.score) for point in best], dim=1)
        keep = float(kept[:, -1].mean()) if self.keep is None else self.keep
        place = _last_above(kept, keep)
        two = [_pick(way, place) for way in ways]
        agreement = _agreement(*two)
        one, other = (point.fit + betas[place] * point.nats for point in two)
        close = (one - other).abs() <= CLOSE * torch.minimum(one.abs(), other.abs())
        stays = _certified(walk, chosen.rest, self.n_draws, share, keep)
        low, high = wilson(stays, self.n_draws, 0.95)
        return Curve(
            betas=betas.cpu(),
            bits=torch.stack([point.total for point in best], dim=1),
            kept=kept,
            loss=torch.stack(
                [point.fit + beta * point.nats for beta, point in zip(betas, best, strict=True)],
                dim=1,
            ),
            floor=floor,
            maps=torch.stack([point.bits for point in best], dim=1),
            keep=keep,
            bits_at_keep=chosen.total,
            kept_at_keep=share(chosen.score),
            reached=reached,
            agreement=agreement,
            competing=(agreement < COMPETING) & close & (chosen.total >= 1.0),
            n_draws=self.n_draws,
            stays=stays / self.n_draws,
            low=low,
            high=high,
            passes=walk.passes,
        )


def _share(walk: Walk) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """From the explained value through noise to the share that is kept; that of noise alone."""
    with torch.no_grad():
        clean = walk.score(walk.clean)[0]
    noise = walk.measured(torch.ones_like(walk.rest), walk.common)[1].mean(dim=0)
    if walk.classes is not None:
        of_class = clean.clamp_min(torch.finfo(clean.dtype).tiny)
        return (lambda score: score / of_class), noise / of_class
    gap = clean - noise
    gap = torch.where(gap.abs() < 1e-12, torch.full_like(gap, 1e-12), gap)
    return (lambda score: (score - noise) / gap), torch.zeros_like(noise)


def _least(beta: Tensor, found: Sequence[Point]) -> Point:
    """Per sample the solution of the smallest loss at β.

    Taken over all solutions, of every β, so that bits fall and losses rise along the path.
    """
    return _pick(found, torch.stack([point.fit + beta * point.nats for point in found]).argmin(0))


def _fewest(
    found: Sequence[Point], share: Callable[[Tensor], Tensor], keep: float
) -> tuple[Point, Tensor]:
    """Per sample the solution with the fewest bits that keeps enough, and whether there is one."""
    kept = torch.stack([share(point.score) for point in found])
    enough = kept >= keep
    nats = torch.stack([point.nats for point in found]).masked_fill(~enough, float("inf"))
    reached = enough.any(dim=0)
    return _pick(found, torch.where(reached, nats.argmin(0), kept.argmax(0))), reached


def _between(
    walk: Walk,
    betas: Tensor,
    best: Sequence[Point],
    share: Callable[[Tensor], Tensor],
    keep: float,
) -> list[Point]:
    """Solutions between the last β that keeps enough and the next, by bisection of log β."""
    place = _last_above(torch.stack([share(point.score) for point in best], dim=1), keep)
    low = betas[place].log()
    high = betas[(place + 1).clamp_max(len(betas) - 1)].log()
    walk.restart()
    walk.rest = _pick(best, place).rest.clone()
    found: list[Point] = []
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        found.append(walk.judge(walk.settle(middle.exp())))
        enough = share(found[-1].score) >= keep
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    return found


def _last_above(kept: Tensor, keep: float) -> Tensor:
    """The last place of ``(N, B)`` that keeps enough, ``(N,)``; 0 where none does."""
    places = torch.arange(kept.shape[1], device=kept.device)
    return ((kept >= keep) * places).amax(dim=1)


def _pick(points: Sequence[Point], which: Tensor) -> Point:
    """Per sample one of some points."""
    rows = torch.arange(len(which), device=which.device)
    names = Point.__dataclass_fields__
    chosen = {
        name: torch.stack([getattr(point, name) for point in points])[which, rows] for name in names
    }
    return replace(points[0], **chosen)


def _agreement(one: Point, other: Point) -> Tensor:
    """Correlation of two maps per sample; 1 where they are the same."""
    a, b = (point.rest.flatten(1).double() for point in (one, other))
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    size = a.norm(dim=1) * b.norm(dim=1)
    same = (one.rest - other.rest).flatten(1).abs().amax(dim=1) < 1e-3
    r = (a * b).sum(dim=1) / size.clamp_min(1e-12)
    return torch.where(same, torch.ones_like(r), r).float()


def _certified(
    walk: Walk, rest: Tensor, n_draws: int, share: Callable[[Tensor], Tensor], keep: float
) -> Tensor:
    """In how many fresh draws the answer stays, ``(N,)``."""
    per_step = len(walk.common[0][0])
    fresh = walk.noise.branch(0)
    steps = [fresh.draw() for _ in range(-(-n_draws // per_step))]
    index = walk.classes
    if index is not None:
        return walk.stays(rest, steps, index)[:n_draws].double().sum(dim=0)
    return (share(walk.measured(rest, steps)[1]) >= keep)[:n_draws].double().sum(dim=0)
