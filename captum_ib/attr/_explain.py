"""From a call to attributions: chunks of samples, one borrowed session and one fit for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from captum_ib.attr._bottlenecks import Bottlenecks
from captum_ib.forward.call import Call, Objective, class_objective, target_index
from captum_ib.attr._priors import Prior
from captum_ib.attr._settings import BottleneckSettings
from captum_ib.bottleneck import ActivationStatistics, FitSettings, FitTrace, NoiseStream, fit
from captum_ib.hooks import (
    CompositeHook,
    Session,
    borrowed,
    open_session,
    roots,
    samples_axis_of,
)
from captum_ib.models.dual_encoder import TowerView
from captum_ib.models.layers import NamedLayer
from captum_ib.layout import TokenLayout
from captum_ib.models.view import ModelView

MakePrior = Callable[[str, Tensor, TokenLayout, Tensor | None, BottleneckSettings], Prior]
"""(layer's name, activation, layout, valid tokens, settings) → noise and prior of the layer."""


@dataclass(frozen=True)
class RunSettings:
    """How a call is carried out, without influence on its result.

    Attributes:
        seed: of the noise stream.
        internal_batch_size: at most so many rows (samples · draws) go through the model at once.
        replay: compute once what does not depend on the layers.
        trace: keep the fit's record.
    """

    seed: int
    internal_batch_size: int | None = None
    replay: bool = True
    trace: bool = False

    def __post_init__(self) -> None:
        size = self.internal_batch_size
        if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
            raise TypeError(f"internal_batch_size must be an int, given {type(size).__name__}")
        if size is not None and size < 1:
            raise ValueError(f"internal_batch_size must be at least 1, given {size}")

    def samples_at_once(self, n: int, rows_per_sample: int) -> int:
        """Samples per chunk."""
        if self.internal_batch_size is None:
            return n
        return max(1, self.internal_batch_size // rows_per_sample)


@dataclass(frozen=True)
class Explained:
    """Result of a call.

    Attributes:
        bits: layer-shaped, per compressed layer.
        layouts: of the compressed layers.
        trace: the fit's record, on request.
        extras: what else the bottlenecks report, by name, ``(N, …)``.
    """

    bits: list[Tensor]
    layouts: list[TokenLayout]
    trace: FitTrace | None
    extras: dict[str, Tensor] = field(default_factory=dict)

    def attribution(self, reduce: str) -> Tensor:
        """The mean over the compressed layers; by position, or (``"none"``) layer-shaped."""
        if reduce == "none":
            maps = self.bits
        else:
            maps = [
                layout.attribution(values)
                for layout, values in zip(self.layouts, self.bits, strict=True)
            ]
        return mean_map(maps)


def mean_map(maps: Sequence[Tensor]) -> Tensor:
    """The mean of equally shaped maps.

    Raises:
        ValueError: maps of different resolution.
    """
    if len({tuple(values.shape) for values in maps}) > 1:
        raise ValueError(
            "the layers' maps have different shapes, so they have no mean: "
            f"{[tuple(values.shape) for values in maps]}; choose layers of one resolution"
        )
    return torch.stack(list(maps)).mean(dim=0) if len(maps) > 1 else maps[0]


@dataclass(frozen=True)
class Plan:
    """Everything about a fit but the inputs and the layers.

    ``build(forward_func)`` gives what makes the bottlenecks: :class:`Bottlenecks`, or a method's
    own kind of them.
    """

    make_prior: MakePrior
    bottleneck: BottleneckSettings
    fitting: FitSettings
    run: RunSettings
    to_input: bool = False
    layout: TokenLayout | Sequence[TokenLayout] | None = None
    objective: Objective = class_objective
    build: Callable[[Any], Callable[..., Bottlenecks]] = lambda forward_func: Bottlenecks

    def rows(self) -> FitSettings:
        """The fit's settings with the draws that may go through the model at once."""
        size = self.run.internal_batch_size
        if size is None:
            return self.fitting
        return replace(self.fitting, draws_per_pass=min(size, self.fitting.n_samples))

    def steps(self, n: int) -> int:
        """Steps of all chunks of ``n`` samples, for a progress bar."""
        size = self.run.samples_at_once(n, self.fitting.n_samples)
        return -(-n // size) * self.fitting.n_steps


def explain(
    call: Call,
    layers: Sequence[NamedLayer],
    target: Any,
    plan: Plan,
    on_step: Callable[[], object] | None = None,
) -> Explained:
    """Fit the bottlenecks for all samples of a call, some at a time."""
    size = plan.run.samples_at_once(call.n, plan.fitting.n_samples)
    names, modules = zip(*layers, strict=True)
    parts: list[Explained] = []
    for start in range(0, call.n, size):
        part = call.part(start, min(start + size, call.n))
        with open_session(
            call.forward_func, part.run, modules, names, part.n, plan.to_input, plan.run.replay
        ) as session:
            wanted = part_of_target(target, call.n, start, start + size)
            part.target = target_index(wanted, session.output)
            parts.append(_fit_session(part, session, plan, on_step))
    traces = [part.trace for part in parts if part.trace is not None]
    return Explained(
        [torch.cat(pieces) for pieces in zip(*(part.bits for part in parts), strict=True)],
        parts[0].layouts,
        FitTrace.concatenate(traces) if traces else None,
        {name: torch.cat([part.extras[name] for part in parts]) for name in parts[0].extras},
    )


def part_of_target(target: Any, n: int, start: int, stop: int) -> Any:
    """A call's targets for some of its samples; forms that hold for all stay as they are."""
    if isinstance(target, list) and len(target) == n:
        return target[start:stop]
    if isinstance(target, Tensor) and target.numel() > 1 and target.shape[0] == n:
        return target[start:stop]
    return target


def _fit_session(
    call: Call, session: Session, plan: Plan, on_step: Callable[[], object] | None
) -> Explained:
    layouts = session_layouts(call, session, plan.layout)
    settings = plan.bottleneck.resolved(layouts[0])
    valid = session_mask(call, session, layouts[0])
    priors = [
        plan.make_prior(name, activation, layout, valid, settings)
        for name, activation, layout in zip(
            session.names, session.activations, layouts, strict=True
        )
    ]
    bottlenecks = plan.build(call.forward_func)(
        session,
        layouts,
        priors,
        lambda output: plan.objective(output, call.target),
        settings,
        valid,
    )
    trace = fit(
        bottlenecks.groups(),
        bottlenecks.evaluate,
        noise_stream(session, plan),
        plan.rows(),
        evaluate_last=plan.run.trace or settings.compression == "layerwise",
        on_step=on_step,
    )
    bits = bottlenecks.bits()
    require_finite_bits(session, bits)
    kept = trace if plan.run.trace else None
    return Explained(bits, layouts[: len(bits)], kept, bottlenecks.extras())


def noise_stream(session: Session, plan: Plan) -> NoiseStream:
    """The noise of one chunk; every chunk of a call starts the same stream."""
    return NoiseStream(
        plan.run.seed,
        [tuple(activation.shape[1:]) for activation in session.activations],
        plan.fitting.n_samples,
        plan.fitting.antithetic,
        session.activations[0].device,
    )


def require_finite_bits(session: Session, bits: Sequence[Tensor]) -> None:
    """Raise ``RuntimeError`` naming the layer when its information overflowed."""
    for name, values in zip(session.names, bits, strict=False):
        if not bool(torch.isfinite(values).all()):
            raise RuntimeError(
                f"the information at layer {name} is not finite; its activations may be too "
                "large for their noise: pass baselines, or a larger min_std"
            )


def session_layouts(
    call: Call, session: Session, layout: TokenLayout | Sequence[TokenLayout] | None
) -> list[TokenLayout]:
    """The layout of every layer of a session, given or inferred.

    Raises:
        ValueError: no sample axis, or a layout that does not fit.
    """
    given = [layout] * len(session.layers) if isinstance(layout, TokenLayout) else layout
    if given is not None and len(given) != len(session.layers):
        raise ValueError(f"given {len(given)} layouts for {len(session.layers)} layers")
    layouts = []
    for index, (module, name, activation) in enumerate(
        zip(session.layers, session.names, session.activations, strict=True)
    ):
        if activation.shape[0] != call.n:
            raise ValueError(
                f"the activation of layer {name} has shape {tuple(activation.shape)}, without "
                f"the {call.n} samples on axis 0; for windows choose another layer, for example "
                "the whole block; for layers that take the sequence first (T, N, C) set "
                "samples_axis=1 on the Tower, or as an attribute of forward_func"
            )
        if given is None:
            layouts.append(_infer(call, module, activation, name))
        else:
            given[index].check(activation, name)
            layouts.append(given[index])
    return layouts


def _infer(call: Call, layer: nn.Module, activation: Tensor, name: str) -> TokenLayout:
    """The layout as the forward function knows it (a tower does), else from the model's modules."""
    if isinstance(call.forward_func, ModelView):
        return call.forward_func.layout(layer, activation, call.inputs, name)
    model = call.forward_func if isinstance(call.forward_func, nn.Module) else None
    return TokenLayout.infer(model, layer, activation, call.inputs, name)


def session_mask(call: Call, session: Session, layout: TokenLayout) -> Tensor | None:
    """Valid tokens ``(N, T)`` of the sequence that the first layer sees; ``None``: all."""
    if layout.kind != "sequence":
        return None
    return valid_tokens(call, int(session.activations[0].shape[1]))


def valid_tokens(call: Call, tokens: int) -> Tensor | None:
    """Valid tokens ``(N, tokens)``, as a tower knows them, else by the mask among the arguments."""
    if not isinstance(call.forward_func, TowerView):
        return call.token_mask(tokens)
    mask = call.forward_func.valid_tokens(*call.inputs, *call.additional)
    return mask if mask is None or mask.shape[1] == tokens else None


def estimate(
    forward_func: Callable,
    calls: Iterable[Call],
    layers: Sequence[NamedLayer],
    to_input: bool = False,
) -> ActivationStatistics:
    """Statistics of some layers over the samples of the calls."""
    names, modules = zip(*layers, strict=True)
    statistics = ActivationStatistics()
    for call in calls:
        found: dict[int, Tensor] = {}

        def keep(index: int, activation: Tensor, found: dict[int, Tensor] = found) -> None:
            found[index] = activation.detach()

        axis = samples_axis_of(call.forward_func)
        hook = CompositeHook(modules, keep, to_input, names, axis)
        with borrowed(roots(forward_func, call.run)), torch.no_grad(), hook, hook.one_pass():
            call.run()
        for index, activation in found.items():
            mask = valid_tokens(call, activation.shape[1]) if activation.ndim == 3 else None
            statistics.update(names[index], activation, mask)
    return statistics
