"""BitsCurve: the fewest bits with which a model keeps a share of its confidence (ours)."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, overload

import torch
from captum.attr import LayerAttribution  # pyright: ignore[reportMissingTypeStubs]: it has none
from torch import Tensor

from captum_ib.attr import IBA, M2IB, CoIBA, CoM2IB
from captum_ib.checks import require_count, require_weight
from captum_ib.curve.path import PathSolver
from captum_ib.curve.result import Curve
from captum_ib.curve.solver import Criterion
from captum_ib.forward import Named, draw_seed, log_usage

BETAS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""The path for classifiers, in the units of IBA's and CoIBA's β."""

PAIR_BETAS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""The path for pairs, whose objective is a cosine."""

_SET = (
    *("beta", "n_steps", "lr", "return_trace", "reduce", "compression", "damping"),
    *("guidance", "temperature"),
)
"""Arguments of the methods that have no meaning here; guidance weighs what the curve counts."""


class BitsCurve(Named, LayerAttribution):
    """The rate–distortion curve of IBA, CoIBA, M2IB or CoM2IB, and the map at a share kept.

    A single fit says how many bits one β leaves, after so many steps of Adam. Here every fit runs
    until it has converged (a step in closed form: ``captum_ib/bottleneck/quadratic.py``), along a
    path of β, up from the smallest and down from the largest. Of all fits the one with the smallest
    loss is kept at every β, so bits fall and losses rise along the curve. The map is the one with
    the fewest bits that keeps ``keep`` of the explained value, found between two β by bisection.

    **Give references.** Without ``baselines`` (or ``method.estimate``) the noise has the mean and
    variance of the sample's own activation, which tell much of the answer: then 0 bits may keep
    nearly all. A warning says so, and ``Curve.floor`` says how much.

    Args:
        method: an :class:`IBA` of one layer, a :class:`CoIBA`, :class:`M2IB` or :class:`CoM2IB`.

    Raises:
        TypeError: another method.
        ValueError: an IBA of several layers, whose fits are separate.

    >>> from captum_ib import BitsCurve, CoIBA, zoo
    >>> vit = zoo.load("vit-scenes")
    >>> scenes, others = (zoo.scenes.labelled(n, seed=n) for n in (2, 32))
    >>> bits, curve = BitsCurve(CoIBA(vit.model)).attribute(
    ...     vit.normalize(scenes.images), vit.normalize(others.images), scenes.labels,
    ...     betas=[1.0], max_passes=4, seed=0, return_curve=True)
    >>> bits.shape, curve.bits.shape
    (torch.Size([2, 1, 8, 8]), torch.Size([2, 1]))
    """

    def __init__(self, method: IBA | CoIBA | M2IB | CoM2IB) -> None:
        if type(method) not in (IBA, CoIBA, M2IB, CoM2IB):
            raise TypeError(
                f"BitsCurve takes an IBA, CoIBA, M2IB or CoM2IB, given {type(method).__name__}"
            )
        if isinstance(method, IBA) and len(method.layers) > 1:
            raise ValueError(
                f"an IBA of {len(method.layers)} layers is as many separate fits; give one layer, "
                "or CoIBA, which has one fit for all"
            )
        base: Any = LayerAttribution  # Captum types no constructor
        base.__init__(self, method.forward_func, method.layer)
        self.method = method

    @overload
    def attribute(
        self,
        inputs: Any,
        baselines: Any = ...,
        target: Any = ...,
        additional_forward_args: Any = ...,
        *,
        return_curve: Literal[False] = ...,
        **options: Any,
    ) -> Tensor | tuple[Tensor, ...]: ...

    @overload
    def attribute(
        self,
        inputs: Any,
        baselines: Any = ...,
        target: Any = ...,
        additional_forward_args: Any = ...,
        *,
        return_curve: Literal[True],
        **options: Any,
    ) -> tuple[Any, Any]: ...

    @log_usage()
    def attribute(
        self,
        inputs: Any,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        return_curve: bool = False,
        keep: float | None = 0.9,
        betas: Sequence[float] | None = None,
        n_samples: int = 4,
        n_draws: int = 100,
        tolerance: float = 0.005,
        max_passes: int = 30,
        seed: int | None = None,
        **options: Any,
    ) -> Any:
        """Bits per position with ``keep`` of the explained value left.

        Args:
            inputs, baselines, target, additional_forward_args: as the method's ``attribute``.
            return_curve: also return the :class:`~captum_ib.curve.Curve` (of a pair two of them).
            keep: share of the target's probability to keep (of a pair, or a scalar: of the way
                from noise to the clean value), in (0, 1); ``None``: the converged fit at the last
                β, whatever it keeps.
            betas: the path, rising, all above 0; default: nine values from 0.01 to 100, for pairs
                from 0.001 to 10 (ours).
            n_samples: noise draws per pass, in antithetic pairs.
            n_draws: fresh draws of the certificate.
            tolerance: a fit has converged when its bits change by less, relatively, in three
                passes in a row.
            max_passes: at most so many passes at the first β of a way, a third of them at each
                other.
            seed: of the noise; default: drawn from torch's global generator.
            options: further arguments of the method's ``attribute``, but those of its optimiser
                (``n_steps``, ``lr``), ``beta``, ``reduce``, CoIBA's ``compression`` and
                ``damping``, and CoM2IB's guidance. ``smoothing`` is off unless given; a smoothed λ
                is refused.

        Returns:
            What the method returns, in bits; with ``return_curve`` a tuple ``(map, curve)``.

        Warns:
            UserWarning: noise alone keeps the share.

        Raises:
            TypeError, ValueError, RuntimeError: as the method; a ``keep`` or path out of range; an
                argument that has no meaning here; information that is no sum over positions.
        """
        taken = [name for name in _SET if name in options]
        if taken:
            raise TypeError(
                f"{', '.join(taken)}: BitsCurve has no such argument; it runs every fit until it "
                "has converged, along betas="
            )
        if keep is not None and not 0 < require_weight("keep", keep) < 1:
            raise ValueError(f"keep must lie between 0 and 1, given {keep}")
        solver = PathSolver(
            _path(betas, BETAS if isinstance(self.method, (IBA, CoIBA)) else PAIR_BETAS),
            keep,
            require_count("n_draws", n_draws),
            Criterion(
                require_weight("tolerance", tolerance, positive=True),
                require_count("max_passes", max_passes),
            ),
        )
        if isinstance(self.method, (IBA, CoIBA)):
            options.setdefault("smoothing", None)
        method: Any = copy.copy(self.method)
        method.solve = solver
        maps = method.attribute(
            inputs,
            baselines,
            target,
            additional_forward_args,
            beta=1.0,
            n_steps=solver.passes_at_most,
            n_samples=require_count("n_samples", n_samples, least=2),
            antithetic=True,
            seed=draw_seed(seed),
            **options,
        )
        if keep is not None:
            _warn_of_noise(
                solver.curves, keep, baselines is not None or method.statistics is not None
            )
        return (maps, _of_calls(solver.curves, method.sites)) if return_curve else maps


def _warn_of_noise(curves: Sequence[Curve], keep: float, referred: bool) -> None:
    """Say where the noise itself tells the answer."""
    floor = torch.cat([curve.floor for curve in curves])
    told = int((floor >= keep).sum())
    if told:
        why = (
            "the value hardly depends on what these layers say of the sample"
            if referred
            else "noise with the mean and variance of the sample's own activation tells of the "
            "sample; pass baselines= with reference inputs"
        )
        warnings.warn(
            f"for {told} of {len(floor)} maps noise everywhere keeps {keep:.0%} of the value, so "
            f"0 bits are enough: {why}",
            stacklevel=4,  # through the decorators of attribute
        )


def _path(betas: Sequence[float] | None, default: Sequence[float]) -> list[float]:
    """A checked path.

    Raises:
        ValueError: an empty one, or one that does not rise.
    """
    path = [require_weight("betas", beta, positive=True) for beta in betas or default]
    if betas is not None and not len(betas):
        raise ValueError("betas is empty; give at least one value, or None")
    if any(after <= before for before, after in pairwise(path)):
        raise ValueError(f"betas must rise, given {path}")
    return path


def _of_calls(curves: Sequence[Curve], sites: Sequence[Any]) -> Curve | tuple[Curve, ...]:
    """The parts' curves as one, or as one per tower."""
    per_call = len(curves) // len(sites)
    joined = tuple(
        Curve.concatenate(curves[start : start + per_call])
        for start in range(0, len(curves), per_call)
    )
    return joined[0] if len(joined) == 1 else joined
