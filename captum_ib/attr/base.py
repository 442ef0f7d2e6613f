"""Base of the methods that fit bottlenecks: their layers, noise and settings, one fit per call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from captum.attr import LayerAttribution  # pyright: ignore[reportMissingTypeStubs]: it has none

from captum_ib.attr.fitting import (
    Bottlenecks,
    Build,
    CallT,
    Explained,
    Layers,
    Plan,
    Solve,
    explain,
    mean_map,
)
from captum_ib.bottleneck import ActivationStatistics, Noise
from captum_ib.checks import require_choice, require_weight
from captum_ib.forward import Call, Named, draw_seed, progress, references_of, statistics_of
from captum_ib.hooks import untouched
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer

__all__ = [
    "FIT_OPTIONS",
    "Auto",
    "BottleneckAttribution",
    "Bottlenecks",
    "CallT",
    "Explained",
    "Layers",
    "Noise",
    "Plan",
    "explain",
    "fit_passes",
    "mean_map",
    "require_smoothing",
    "seed_of",
    "smoothing_of",
]

FIT_OPTIONS = {"beta": "beta", "steps": "n_steps", "samples": "n_samples", "seed": "seed"}


def fit_passes(draws: int) -> str:
    """What the methods' :class:`~captum_ib.facts.Facts` say of a fit."""
    return f"10 steps x {draws} draws, forward and backward, behind the layer"


Auto = Literal["auto"]


class BottleneckAttribution(Named, LayerAttribution):
    """Base of the methods that fit bottlenecks: where they are, and what noise they use.

    Args:
        forward_func: the model, a function that calls it, or a dual encoder.
        sites: the layers of its call; of a dual encoder those of each of its two calls.

    Attributes:
        sites: as given.
        statistics: what :meth:`estimate` found, or ``None``.
    """

    solve: Solve | None = None
    """What finds α in the place of Adam's steps (:class:`captum_ib.BitsCurve`)."""

    def __init__(
        self, forward_func: Callable[..., Any], sites: Sequence[Sequence[NamedLayer]]
    ) -> None:
        self.sites = [list(layers) for layers in sites]
        self.statistics: ActivationStatistics | None = None
        base: Any = LayerAttribution  # Captum types no constructor
        base.__init__(self, forward_func, self.sites[0][0][1])

    @untouched
    def estimate(
        self, loader: Iterable[Any], attribute_to_layer_input: bool = False
    ) -> ActivationStatistics:
        """Estimate the noise's mean and variance from reference inputs, and keep them.

        Args:
            loader: batches; each a tensor of inputs, or a tuple or list whose first entry is the
                inputs (a tensor, or a tuple of all the model's arguments) — labels behind are
                not used. For a dual encoder tuples ``(first, second, *masks)``, whose sides may
                differ in their number of rows.
            attribute_to_layer_input: take the layers' inputs instead of their outputs.

        Returns:
            The statistics, also kept in :attr:`statistics` and used by every later
            ``attribute`` that estimates its noise and is given no ``baselines``.

        Raises:
            TypeError: a batch of another kind.
            ValueError: an empty loader, or NaN in an activation.
        """
        self.statistics = statistics_of(
            self.forward_func, loader, self.sites, attribute_to_layer_input
        )
        return self.statistics

    def statistics_for(
        self, calls: Sequence[Call], baselines: object, to_input: bool = False
    ) -> ActivationStatistics | None:
        """What ``baselines`` say of the layers, else the estimate."""
        if baselines is None:
            return self.statistics
        return references_of(self.forward_func, calls, baselines, self.sites, to_input)

    def _explain(
        self,
        calls: Sequence[Call],
        builds: Sequence[Build],
        plans: Sequence[Plan],
        show_progress: bool,
        fitted: Callable[[Any], object] | None = None,
    ) -> list[Explained]:
        """One fit for every call and its layers."""
        jobs = list(zip(calls, self.sites, builds, plans, strict=True))
        total = sum(
            -(-call.n // plan.parts(call.n)) * plan.fitting.n_steps for call, _, _, plan in jobs
        )
        with progress(total, self.get_name(), show_progress) as tick:
            return [
                explain(call, layers, build, plan, tick, fitted, self.solve)
                for call, layers, build, plan in jobs
            ]


def seed_of(seed: int | None, reduce: str) -> int:
    """The seed of a call, after a look at ``reduce``.

    Raises:
        TypeError, ValueError: a seed that is no int; an unknown ``reduce``.
    """
    require_choice("reduce", reduce, ("sum", "none"))
    return draw_seed(seed)


def smoothing_of(value: float | Auto | None, layout: TokenLayout) -> float | None:
    """σ of the Gaussian over a layer's positions; ``"auto"``: 1 on convolutional feature maps."""
    if isinstance(value, str):
        return 1.0 if layout.kind == "nchw" else None
    return value


def require_smoothing(value: float | Auto | None) -> float | Auto | None:
    """A checked ``smoothing``.

    Raises:
        ValueError: neither ``None``, ``"auto"``, nor a positive number.
    """
    if isinstance(value, str) and value != "auto":
        raise ValueError(f'smoothing must be a number, None or "auto", given {value!r}')
    if value is not None and not isinstance(value, str):
        require_weight("smoothing", value, positive=True)
    return value
