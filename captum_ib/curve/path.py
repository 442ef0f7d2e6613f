"""The path of β: up, down, and between its points until a share of the confidence is met."""

from __future__ import annotations

from collections.abc import Sequence
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

    @property
    def passes_at_most(self) -> int:
        """Passes per part of a call when nothing converges early."""
        ways = 2 * self.criterion.at_most(len(self.betas))
        return ways if self.keep is None else ways + self.criterion.at_most(HALVINGS)

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
        share = Share(walk)
        best = [_least(beta, up + down) for beta in betas]
        if self.keep is None:
            chosen, reached = best[-1], torch.ones(n, dtype=torch.bool, device=betas.device)
            place = torch.full((n,), len(betas) - 1, device=betas.device)
        else:
            place = _last_above(share, best, self.keep)
            found = up + down + _between(walk, betas, best, share, self.keep, place)
            chosen, reached = _fewest(found, share, self.keep)
        problem.damping.alphas[0].data.copy_(alpha_of(chosen.rest))
        agreement, close = _compared(_pick(up, place), _pick(down, place), betas[place])
        kept = share(chosen.score)
        stays = _certified(walk, chosen.rest, self.n_draws, share, self.keep or kept)
        low, high = wilson(stays, self.n_draws, 0.95)
        self.curves.append(
            Curve(
                betas=betas.cpu(),
                bits=torch.stack([point.total for point in best], dim=1),
                kept=torch.stack([share(point.score) for point in best], dim=1),
                loss=torch.stack([_loss(*at) for at in zip(betas, best, strict=True)], dim=1),
                floor=share.floor,
                maps=torch.stack([point.bits for point in best], dim=1),
                keep=self.keep,
                bits_at_keep=chosen.total,
                kept_at_keep=kept,
                reached=reached,
                agreement=agreement,
                competing=(agreement < COMPETING) & close & (chosen.total >= 1.0),
                n_draws=self.n_draws,
                stays=stays / self.n_draws,
                low=low,
                high=high,
                passes=walk.passes,
            )
        )
        return Fit(None, [])


class Share:
    """From the explained value through noise to the share of it that is kept.

    Of a class p(Z)/p. Of a scalar or a similarity s the way from noise alone, s₀, to the clean
    value: (s(Z) − s₀)/(s − s₀). Where s is not above s₀ by two of its standard errors there is no
    such way to tell, and what is kept is 1 + s(Z) − s, so that noise keeps about all.

    Attributes:
        floor: share that noise alone keeps, ``(N,)``.
    """

    def __init__(self, walk: Walk) -> None:
        with torch.no_grad():
            self._clean = walk.score(walk.clean)[0]
        scores = walk.scores(torch.ones_like(walk.rest), walk.common)
        self._noise = scores.mean(dim=0)
        self._told = self._clean - self._noise > 2 * scores.std(dim=0) / len(scores) ** 0.5
        self._of_class = walk.classes is not None
        self.floor = self(self._noise)

    def __call__(self, score: Tensor) -> Tensor:
        """The share of scores ``(…, N)``."""
        clean, noise = self._clean, self._noise
        if self._of_class:
            return score / clean.clamp_min(torch.finfo(clean.dtype).tiny)
        way = torch.where(self._told, clean - noise, torch.ones_like(clean))
        return torch.where(self._told, (score - noise) / way, 1 + score - clean)


def _loss(beta: Tensor, point: Point) -> Tensor:
    """The loss at β, ``(N,)``."""
    return point.fit + beta * point.nats


def _least(beta: Tensor, found: Sequence[Point]) -> Point:
    """Per sample the solution of the smallest loss at β.

    Taken over all solutions, of every β, so that bits fall and losses rise along the path.
    """
    return _pick(found, torch.stack([_loss(beta, point) for point in found]).argmin(0))


def _fewest(found: Sequence[Point], share: Share, keep: float) -> tuple[Point, Tensor]:
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
    share: Share,
    keep: float,
    place: Tensor,
) -> list[Point]:
    """Solutions between the β at ``place`` and the next, by bisection of log β."""
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


def _last_above(share: Share, best: Sequence[Point], keep: float) -> Tensor:
    """The last place of the path that keeps enough, ``(N,)``; 0 where none does."""
    enough = torch.stack([share(point.score) for point in best], dim=1) >= keep
    return (enough * torch.arange(len(best), device=enough.device)).amax(dim=1)


def _pick(points: Sequence[Point], which: Tensor) -> Point:
    """Per sample one of some points."""
    rows = torch.arange(len(which), device=which.device)
    names = Point.__dataclass_fields__
    chosen = {
        name: torch.stack([getattr(point, name) for point in points])[which, rows] for name in names
    }
    return replace(points[0], **chosen)


def _compared(one: Point, other: Point, beta: Tensor) -> tuple[Tensor, Tensor]:
    """How two solutions' r correlate (1 where they are the same), and whether losses are close."""
    a, b = (point.rest.flatten(1).double() for point in (one, other))
    a, b = a - a.mean(dim=1, keepdim=True), b - b.mean(dim=1, keepdim=True)
    size = a.norm(dim=1) * b.norm(dim=1)
    same = (one.rest - other.rest).flatten(1).abs().amax(dim=1) < 1e-3
    r = (a * b).sum(dim=1) / size.clamp_min(1e-12)
    first, second = _loss(beta, one), _loss(beta, other)
    close = (first - second).abs() <= CLOSE * torch.minimum(first.abs(), second.abs())
    return torch.where(same, torch.ones_like(r), r).float(), close


def _certified(
    walk: Walk, rest: Tensor, n_draws: int, share: Share, keep: float | Tensor
) -> Tensor:
    """In how many fresh draws the answer stays, ``(N,)``."""
    per_step = len(walk.common[0][0])
    fresh = walk.noise.branch(0)
    steps = [fresh.draw() for _ in range(-(-n_draws // per_step))]
    if walk.classes is not None:
        held = walk.stays(rest, steps, walk.classes)
    else:
        held = share(walk.scores(rest, steps)) >= keep
    return held[:n_draws].double().sum(dim=0)
