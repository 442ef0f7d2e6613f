"""A check that only bits allow: is what has few of them really not needed?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, Literal, cast

import torch
from torch import Tensor

from captum_ib.attr.base import BottleneckAttribution, Noise
from captum_ib.bottleneck import MIN_STD
from captum_ib.forward import (
    Call,
    TowerCall,
    calls_of,
    per_call,
    predicted,
    sequence_mask,
    session_layouts,
    session_of,
)
from captum_ib.layout import TokenLayout
from captum_ib.metrics.cut import at_layer, cut_outputs
from captum_ib.models.layers import NamedLayer


@dataclass(frozen=True)
class Certificate:
    """What happened when everything below ``bits`` became noise, per sample (N).

    Attributes:
        bits: the threshold.
        level: confidence level of the intervals.
        n_draws: noise draws per sample.
        replaced: ``(N,)``, share of the positions (or elements) that were replaced.
        moves: ``(N,)``, draws in which the prediction moved: another class for a classifier (of
            a single logit: another sign), a change of more than ``tolerance`` for a scalar output.
        rate: ``(N,)``, moves / n_draws.
        low: ``(N,)``, lower end of the Wilson interval of the rate.
        high: ``(N,)``, its upper end.
        change: ``(N,)``, mean absolute change of the target's probability (or of the scalar
            output).
        change_error: ``(N,)``, its standard error over the draws.
    """

    bits: float
    level: float
    n_draws: int
    replaced: Tensor
    moves: Tensor
    rate: Tensor
    low: Tensor
    high: Tensor
    change: Tensor
    change_error: Tensor

    def __str__(self) -> str:
        """One line per sample, as a report could quote it."""
        rows = zip(
            self.replaced.tolist(),
            self.rate.tolist(),
            self.low.tolist(),
            self.high.tolist(),
            self.change.tolist(),
            strict=True,
        )
        return "\n".join(
            f"sample {number}: {replaced:.0%} below {self.bits:g} bits replaced; the prediction "
            f"moves in {rate:.1%} of {self.n_draws} draws ({self.level:.0%} interval {low:.1%} to "
            f"{high:.1%}), by {change:.3f} on average"
            for number, (replaced, rate, low, high, change) in enumerate(rows)
        )


@dataclass(frozen=True)
class _Settings:
    bits: float
    n_draws: int
    draws_per_pass: int
    level: float
    tolerance: float
    seed: int

    def __post_init__(self) -> None:
        if not self.bits > 0:
            raise ValueError(f"bits must be above 0 (nothing has fewer than 0), given {self.bits}")
        if self.n_draws < 2 or self.draws_per_pass < 1:
            raise ValueError(
                "a certificate needs n_draws ≥ 2 and draws_per_pass ≥ 1, given "
                f"{self.n_draws} and {self.draws_per_pass}"
            )
        if not 0 < self.level < 1:
            raise ValueError(f"level is a probability between 0 and 1, given {self.level}")
        if self.tolerance < 0:
            raise ValueError(f"tolerance must not be negative, given {self.tolerance}")


def certify(
    method: Any,
    inputs: Tensor | tuple[Tensor, ...],
    attr: Tensor | tuple[Tensor, ...],
    bits: float,
    *,
    target: Any = None,
    baselines: Any = None,
    additional_forward_args: Any = None,
    attribute_to_layer_input: bool = False,
    prior: Literal["estimated", "standard"] | None = None,
    n_draws: int = 100,
    draws_per_pass: int = 10,
    level: float = 0.95,
    tolerance: float = 0.05,
    seed: int = 0,
    min_std: float = MIN_STD,
    layout: TokenLayout | Sequence[TokenLayout] | None = None,
) -> Certificate | tuple[Certificate, ...]:
    """Replace what has fewer than ``bits`` by noise at the bottleneck, and see what the model says.

    A bottleneck's promise is that a position with 0 bits is not needed for the prediction. Here it
    is put to the test: at the method's layer(s) every such position becomes ε ~ N(μ, σ²), all
    others stay exactly as they are, ``n_draws`` times. Prefix tokens (class token, registers),
    which a spatial map leaves out, stay; a map from ``reduce="none"`` decides on every element
    instead. With several layers (CoIBA, IBA*) all of them are cut, at the same positions.

    Args:
        method: an IBA, CoIBA or M2IB, as it was used for ``attr`` (same layers, same statistics).
        inputs: as given to its ``attribute()``, N samples.
        attr: what ``attribute()`` returned, in bits and of the layer's size (not upsampled).
        bits: the threshold, above 0; positions with fewer bits are replaced.
        target: class whose probability is followed; unless given, the predicted one. A head with
            one logit is a classifier where the target is 0, a scalar output without a target.
        baselines: as given to ``attribute()``: where μ and σ come from.
        additional_forward_args: as given to ``attribute()``.
        attribute_to_layer_input: as given to ``attribute()``.
        prior: ``"estimated"`` noise N(μ, σ²) of the layer, or ``"standard"`` N(0, 1). Unless given:
            standard for pairs (M2IB's default), else estimated.
        n_draws: noise draws per sample, the same for every sample.
        draws_per_pass: how many of them go through the model at once.
        level: confidence level of the Wilson intervals.
        tolerance: for scalar outputs, the change that counts as a move (0.05).
        seed: of the noise.
        min_std: lower bound of σ, as given to ``attribute()``.
        layout: as given to ``attribute()``.

    Returns:
        A ``Certificate``; for a dual encoder a pair of them, one per tower.

    Raises:
        TypeError: a method without bottleneck; attributions that are no tensor.
        ValueError: attributions that are negative (no bits), not finite, or of another size than
            the layer; settings out of range.

    >>> from captum_ib import IBA
    >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(6, 3))
    >>> iba, x = IBA(model, "0"), torch.rand(2, 6, generator=torch.Generator().manual_seed(0))
    >>> attr = iba.attribute(x, target=1, seed=0)
    >>> certificate = certify(iba, x, attr, bits=1e9, n_draws=20)
    >>> certificate.replaced.tolist()
    [1.0, 1.0]
    """
    if prior not in (None, "estimated", "standard"):
        raise ValueError(f'prior is "estimated", "standard" or None, given {prior!r}')
    settings = _Settings(bits, n_draws, draws_per_pass, level, tolerance, seed)
    if not isinstance(method, BottleneckAttribution):
        raise TypeError(
            f"{type(method).__name__} has no bottleneck whose bits could be certified; give an "
            "IBA, CoIBA or M2IB"
        )
    calls = calls_of(method.forward_func, inputs, target, additional_forward_args)
    pair = isinstance(calls[0], TowerCall)
    if pair and (not isinstance(attr, tuple) or len(attr) != 2):
        raise TypeError("a pair's attr is the tuple (first, second) that attribute() returned")
    if not pair:
        given = attr if isinstance(attr, tuple) and len(attr) == 1 else (attr,)
    else:
        given = attr
    standard = prior == "standard" or (pair and prior is None)
    noise = Noise(
        None if standard else method.statistics_for(calls, baselines, attribute_to_layer_input),
        1.0 if standard else None,
        min_std=min_std,
    )
    sites = method.sites if pair else [[layer for site in method.sites for layer in site]]
    layouts = per_call(layout, "layout", calls)
    found = [
        _certify(call, layers, one, noise, settings, attribute_to_layer_input, own)
        for call, layers, one, own in zip(calls, sites, given, layouts, strict=True)
    ]
    return tuple(found) if pair else found[0]


def wilson(moves: Tensor, n_draws: int, level: float) -> tuple[Tensor, Tensor]:
    """Wilson's interval (1927) for a rate seen as ``moves`` of ``n_draws``, lower and upper end.

    Unlike the normal interval it is right at 0 and n: no move in 100 draws does not prove a rate
    of 0, but one below 3.7 %.

    >>> [round(float(end), 4) for end in wilson(torch.tensor([0.0]), 100, 0.95)]
    [0.0, 0.037]
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    rate, shrink = moves / n_draws, 1 + z**2 / n_draws
    middle = (rate + z**2 / (2 * n_draws)) / shrink
    spread = rate * (1 - rate) / n_draws + z**2 / (4 * n_draws**2)
    half = z / shrink * spread.sqrt()
    return (middle - half).clamp(min=0), (middle + half).clamp(max=1)


def _certify(
    call: Call,
    layers: Sequence[NamedLayer],
    attr: Any,
    noise: Noise,
    settings: _Settings,
    to_input: bool = False,
    layout: TokenLayout | Sequence[TokenLayout] | None = None,
) -> Certificate:
    _check(attr, call.n)
    with session_of(call, layers, to_input) as session:
        layouts = session_layouts(call, session, layout)
        valid = sequence_mask(call, session.activations[0], layouts[0])
        priors = [
            noise.prior(name, activation, one, valid)
            for name, activation, one in zip(
                session.names, session.activations, layouts, strict=True
            )
        ]
        low = attr.to(call.device) < settings.bits
        replaced = [
            at_layer(low, activation, one, name)
            for activation, one, name in zip(
                session.activations, layouts, session.names, strict=True
            )
        ]
        outputs = cut_outputs(
            session,
            replaced,
            priors,
            settings.n_draws,
            settings.draws_per_pass,
            settings.seed,
            [one.kind == "sequence" for one in layouts],
        )
        return _sum_up(call, session.output, outputs, low.flatten(1), settings)


def _sum_up(
    call: Call, clean: Tensor, outputs: Tensor, low: Tensor, settings: _Settings
) -> Certificate:
    clean, drawn = clean.float(), outputs.flatten(0, 1).float()
    number = clean.ndim == 1 or (clean.shape[1:].numel() == 1 and call.target is None)
    if isinstance(call, TowerCall) or number:
        before, after = call.score(clean), call.score(drawn)
        moved = (after.unflatten(0, (-1, call.n)) - before).abs() > settings.tolerance
    else:
        call = call if call.target is not None else replace(call, target=clean.argmax(1))
        index, axis = cast(Tensor, call.index(clean)), call.class_axis(clean)
        before, after = call.score(clean, probability=True), call.score(drawn, probability=True)
        moved = predicted(drawn, index, axis).unflatten(0, (-1, call.n)) != predicted(
            clean, index, axis
        )
    after = after.unflatten(0, (-1, call.n))
    change = (after - before).abs().double().cpu()
    moves = moved.double().sum(0).cpu()
    lower, upper = wilson(moves, settings.n_draws, settings.level)
    return Certificate(
        bits=settings.bits,
        level=settings.level,
        n_draws=settings.n_draws,
        replaced=low.double().mean(1).cpu(),
        moves=moves,
        rate=moves / settings.n_draws,
        low=lower,
        high=upper,
        change=change.mean(0),
        change_error=change.std(0) / math.sqrt(settings.n_draws),
    )


def _check(attr: Any, n: int) -> None:
    if not isinstance(attr, Tensor):
        raise TypeError(f"attr must be a tensor of bits, given {type(attr).__name__}")
    if attr.ndim < 2 or len(attr) != n:
        raise ValueError(f"attr of shape {tuple(attr.shape)} for {n} samples")
    if not bool(torch.isfinite(attr).all()):
        raise ValueError("attr holds NaN or infinity")
    if bool((attr < 0).any()):
        raise ValueError(
            "attr has negative values, so it is not in bits (NIB's are units of the output); only "
            "a bottleneck's information can be certified"
        )
