"""What the bottleneck methods share: where the noise comes from, and one fit per part of a call."""

# torch does not type unflatten.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

import torch
from captum.attr import LayerAttribution  # pyright: ignore[reportMissingTypeStubs]: it has none
from torch import Tensor

from captum_ib.bottleneck import (
    ActivationStatistics,
    Channel,
    Damping,
    FitSettings,
    FitTrace,
    Noise,
    NoiseStream,
    Terms,
    fit,
    to_bits,
)
from captum_ib.checks import require_choice, require_weight
from captum_ib.forward import (
    Call,
    Named,
    Tick,
    draw_seed,
    in_parts,
    progress,
    references_of,
    samples_at_once,
    sequence_mask,
    session_layouts,
    session_of,
    statistics_of,
)
from captum_ib.hooks import Session, untouched
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer

FIT_OPTIONS = {"beta": "beta", "steps": "n_steps", "samples": "n_samples", "seed": "seed"}
FIT_PASSES = "10 steps x 4 draws, forward and backward, behind the layer"
"""What the methods' :class:`~captum_ib.facts.Facts` say of a fit."""

Auto = Literal["auto"]
Layouts = TokenLayout | Sequence[TokenLayout] | None


CallT = TypeVar("CallT", bound=Call)


class Layers(Generic[CallT]):
    """The layers of one fit, in a borrowed model that some samples of a call run through.

    Attributes:
        call: the samples.
        layouts: axes of the layers, in running order.
        R: their activations in the plain pass, ``(N, …)``.
        channels: the layers as noisy channels.
        waiting: layers that no gradient has reached so far.
    """

    def __init__(self, call: CallT, session: Session, layout: Layouts, noise: Noise) -> None:
        self.call = call
        self.session = session
        self.layouts = session_layouts(call, session, layout)
        self.R = session.activations
        self.valid = sequence_mask(call, self.R[0], self.layouts[0])
        self.channels = [
            Channel(noise.prior(name, R, own, self.valid), R, own, self.valid)
            for name, R, own in zip(session.names, self.R, self.layouts, strict=True)
        ]
        self.waiting = set(range(len(session.names)))

    def run(self, bottleneck: Callable[[int, Tensor], Tensor], draws: int) -> Tensor:
        """f(Z): the output ``(draws · N, …)`` with ``bottleneck`` in every layer.

        Args:
            bottleneck: (l, R'_l) → Z_l, both ``(draws, N, …)`` and float32; R'_l has passed the
                bottlenecks of the layers before.
            draws: noise draws that go through the model at once.
        """

        def at_layer(index: int, activation: Tensor) -> Tensor:
            R = activation.float().unflatten(0, (draws, self.call.n))
            Z = bottleneck(index, R)
            if index in self.waiting and Z.requires_grad:
                # On Z, not on a view of it, which a layer behind may write in place.
                Z.register_hook(partial(self._reached, index))
            return Z.flatten(0, 1).to(activation.dtype)

        return self.session.run(draws, at_layer)

    def _reached(self, index: int, gradient: Tensor | None) -> None:
        # Behind an operation without a derivative autograd passes None.
        if gradient is not None and bool((gradient != 0).any()):
            self.waiting.discard(index)

    def by_draw(self, rows: Tensor) -> Tensor:
        """Values per row ``(draws · N,)`` → ``(draws, N)``."""
        return rows.unflatten(0, (-1, self.call.n))


class Bottlenecks:
    """Base of what a method fits: it says what its loss is; the rest is the same for all.

    Attributes:
        layers: where the bottlenecks are.
        damping: α, and the λ of every layer.
    """

    layers: Layers[Any]
    damping: Damping

    information_by_draw = False
    """Whether the compressed information depends on the noise drawn."""

    def parameters(self) -> list[dict[str, Any]]:
        """What is fitted, as Adam's groups: α, with the fit's learning rate."""
        return [{"params": self.damping.alphas}]

    def loss(self, draws: list[Tensor]) -> Terms:
        """Fit and compression for some noise draws: the method's equations."""
        raise NotImplementedError(f"{type(self).__name__} defines no loss")

    def information(self) -> list[Tensor]:
        """Information per compressed layer and element at the present λ, ``(N, …)``, nats."""
        return [self.layers.channels[0].information(self.damping(0))]


Build = Callable[[Layers[Any]], Bottlenecks]


@dataclass(frozen=True)
class Plan:
    """How a call is carried out; from ``internal_batch_size`` on without influence on the result.

    Attributes:
        noise: where noise and prior come from.
        fitting: the optimisation.
        seed: of the noise stream; ``None``: from torch's global generator.
        to_input: put the bottlenecks on the layers' inputs.
        layout: axes of the layers, where they can't be inferred.
        internal_batch_size: at most so many rows (samples · draws) go through the model at once.
        replay: compute once what does not depend on the layers.
        trace: keep the fit's record.
    """

    noise: Noise
    fitting: FitSettings
    seed: int
    to_input: bool = False
    layout: Layouts = None
    internal_batch_size: int | None = None
    replay: bool = True
    trace: bool = False

    def parts(self, n: int) -> int:
        """Samples per part of a call."""
        return samples_at_once(n, self.internal_batch_size, self.fitting.n_samples)


@dataclass(frozen=True)
class Explained:
    """What the fits of a call found.

    Attributes:
        bits: layer-shaped, per compressed layer.
        layouts: of the compressed layers.
        trace: the fits' record, on request.
    """

    bits: list[Tensor]
    layouts: list[TokenLayout]
    trace: FitTrace | None

    def attribution(self, reduce: Literal["sum", "none"]) -> Tensor:
        """The mean over the compressed layers; by position, or (``"none"``) layer-shaped."""
        if reduce == "none":
            return mean_map(self.bits)
        pairs = zip(self.layouts, self.bits, strict=True)
        return mean_map([layout.attribution(bits) for layout, bits in pairs])


def explain(
    call: Call,
    layers: Sequence[NamedLayer],
    build: Build,
    plan: Plan,
    tick: Tick | None = None,
    fitted: Callable[[Any], object] | None = None,
) -> Explained:
    """Fit the bottlenecks for all samples of a call, some at a time.

    Args:
        call: the samples.
        layers: where the bottlenecks are.
        build: makes what is fitted, for some of the samples.
        plan: how.
        tick: called after every step.
        fitted: called with what :attr:`build` made, after its fit.

    Raises:
        RuntimeError: no gradient reaches a layer, in any step, for any sample: nothing was fitted.
    """
    parts: list[Explained] = []
    waiting = {name for name, _ in layers}
    for part in in_parts(call, plan.parts(call.n)):
        with session_of(part, layers, plan.to_input, plan.replay) as session:
            problem = build(Layers(part, session, plan.layout, plan.noise))
            parts.append(_fit(problem, plan, tick))
            waiting &= {session.names[index] for index in problem.layers.waiting}
            if fitted is not None:
                fitted(problem)
    if waiting and plan.fitting.n_steps > 1:  # a single step evaluates the loss, no gradient
        _refuse_unreached(sorted(waiting))
    bits = [torch.cat(pieces) for pieces in zip(*(part.bits for part in parts), strict=True)]
    traces = [part.trace for part in parts if part.trace is not None]
    return Explained(bits, parts[0].layouts, FitTrace.concatenate(traces) if traces else None)


def _refuse_unreached(names: Sequence[str]) -> None:
    raise RuntimeError(
        f"no gradient reaches layer{'s' if len(names) > 1 else ''} {', '.join(names)}: in no step "
        "of the fit did the output's derivative there differ from 0, for any sample, so the map "
        "would show nothing but the cost of information; choose layers that the target's output "
        "depends on, and a forward function without int8 weights, .detach(), rounding or argmax "
        "behind them"
    )


def _fit(problem: Bottlenecks, plan: Plan, tick: Tick | None) -> Explained:
    layers = problem.layers
    fitting = replace(plan.fitting, draws_per_pass=plan.internal_batch_size)
    noise = NoiseStream(
        plan.seed,
        [tuple(R.shape[1:]) for R in layers.R],
        fitting.n_samples,
        fitting.antithetic,
        layers.R[0].device,
        [layout.kind == "sequence" for layout in layers.layouts],
    )
    last = plan.trace or problem.information_by_draw
    found = fit(problem, noise, fitting, last, tick)
    with torch.no_grad():
        bits = [to_bits(nats) for nats in found.information or problem.information()]
    for name, values in zip(layers.session.names, bits, strict=False):
        if not bool(torch.isfinite(values).all()):
            raise RuntimeError(
                f"the information at layer {name} is not finite; its activations may be too "
                "large for their noise: pass baselines, or a larger min_std"
            )
    return Explained(bits, layers.layouts[: len(bits)], found.trace if plan.trace else None)


def mean_map(maps: Sequence[Tensor]) -> Tensor:
    """The mean of equally shaped maps.

    Raises:
        ValueError: maps of different resolution.
    """
    shapes = [tuple(values.shape) for values in maps]
    if len(set(shapes)) > 1:
        raise ValueError(
            f"the layers' maps have different shapes, so they have no mean: {shapes}; choose "
            "layers of one resolution"
        )
    return torch.stack(list(maps)).mean(dim=0) if len(maps) > 1 else maps[0]


class BottleneckAttribution(Named, LayerAttribution):
    """Base of the methods that fit bottlenecks: where they are, and what noise they use.

    Args:
        forward_func: the model, a function that calls it, or a dual encoder.
        sites: the layers of its call; of a dual encoder those of each of its two calls.

    Attributes:
        sites: as given.
        statistics: what :meth:`estimate` found, or ``None``.
    """

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
                explain(call, layers, build, plan, tick, fitted)
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
