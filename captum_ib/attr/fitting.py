"""The fit of a method's bottlenecks: the layers that it sees, the loss, and the bits it finds."""

# torch does not type unflatten.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import Tensor

from captum_ib.bottleneck import (
    Channel,
    Damping,
    Fit,
    FitSettings,
    FitTrace,
    Noise,
    NoiseStream,
    Terms,
    fit,
    to_bits,
)
from captum_ib.checks import BatchSize, require_size
from captum_ib.forward import (
    Call,
    Tick,
    in_parts,
    samples_at_once,
    sequence_mask,
    session_layouts,
    session_of,
)
from captum_ib.hooks import Session
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer

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

Solve = Callable[[Any, NoiseStream, FitSettings, "Tick | None"], Fit]
"""(bottlenecks, noise, settings, tick) → the fit, with α left in the bottlenecks' damping."""


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
    internal_batch_size: BatchSize = None
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
    solve: Solve | None = None,
) -> Explained:
    """Fit the bottlenecks for all samples of a call, some at a time.

    Args:
        call: the samples.
        layers: where the bottlenecks are.
        build: makes what is fitted, for some of the samples.
        plan: how.
        tick: called after every step.
        fitted: called with what :attr:`build` made, after its fit.
        solve: finds α in the place of the plan's steps of Adam.

    Raises:
        RuntimeError: no gradient reaches a layer, in any step, for any sample: nothing was fitted.
    """
    parts: list[Explained] = []
    waiting = {name for name, _ in layers}
    for part in in_parts(call, plan.parts(call.n)):
        with session_of(part, layers, plan.to_input, plan.replay) as session:
            problem = build(Layers(part, session, plan.layout, plan.noise))
            parts.append(_fit(problem, plan, tick, solve))
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
        "depends on, and a forward function without int8 weights, .detach(), rounding, argmax or "
        "a head whose weights are 0 behind them"
    )


def _fit(problem: Bottlenecks, plan: Plan, tick: Tick | None, solve: Solve | None) -> Explained:
    layers = problem.layers
    most = require_size("internal_batch_size", plan.internal_batch_size)
    at_once = most or plan.fitting.draws_per_pass
    fitting = replace(plan.fitting, draws_per_pass=at_once)
    noise = NoiseStream(
        plan.seed,
        [tuple(R.shape[1:]) for R in layers.R],
        fitting.n_samples,
        fitting.antithetic,
        layers.R[0].device,
        [layout.kind == "sequence" for layout in layers.layouts],
    )
    last = plan.trace or problem.information_by_draw
    found = (
        fit(problem, noise, fitting, last, tick)
        if solve is None
        else solve(problem, noise, fitting, tick)
    )
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
