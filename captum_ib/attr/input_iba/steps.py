"""The three steps of InputIBA, for samples that go through the model at once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from captum_ib.attr.fitting import Layers, Plan, explain
from captum_ib.attr.iba import IBABottleneck
from captum_ib.attr.input_iba.bottlenecks import (
    Features,
    InputBottleneck,
    PriorMatch,
    start_of,
)
from captum_ib.attr.input_iba.entry import spread_over
from captum_ib.attr.input_iba.gan import EPOCHS, Adversarial
from captum_ib.bottleneck import FitSettings, Noise, NoiseStream
from captum_ib.checks import require_choice, require_size
from captum_ib.forward import Call, Objective, Tick, session_of
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer

PriorName = Literal["matched", "gan", "none"]
Variant = Literal["corrected", "published"]


@dataclass(frozen=True)
class Settings:
    """What the three steps of a call share; fields as in :meth:`InputIBA.attribute`."""

    layer: NamedLayer
    plan: Plan
    prior: PriorName
    variant: Variant
    feature_fit: FitSettings
    prior_fit: FitSettings
    feature_beta: float
    beta: float
    smoothing: float | None
    objective: Objective
    reduce: str

    def __post_init__(self) -> None:
        require_choice("prior", self.prior, ("matched", "gan", "none"))
        require_choice("variant", self.variant, ("corrected", "published"))
        if self.variant == "published" and self.prior != "gan":
            raise ValueError(
                "variant='published' says how the authors' GAN is fitted; pass prior='gan', too"
            )

    @property
    def steps(self) -> int:
        """Of all fits, for samples that go through the model at once."""
        by_prior = {"gan": EPOCHS, "matched": self.prior_fit.n_steps, "none": 0}[self.prior]
        before = 0 if self.prior == "none" else self.feature_fit.n_steps
        return before + by_prior + self.plan.fitting.n_steps


def explained_part(
    call: Call, site: NamedLayer, layout: TokenLayout, settings: Settings, tick: Tick
) -> Tensor:
    """The three steps, for samples that go through the model at once."""
    given = _prior(call, site, layout, settings, tick)
    found: list[InputBottleneck] = []

    def build(layers: Layers[Any]) -> InputBottleneck:
        mask = torch.zeros_like(layers.R[0].float()) if given is None else given
        found.append(
            InputBottleneck(layers, mask, settings.beta, settings.smoothing, settings.objective)
        )
        return found[0]

    plan = replace(settings.plan, noise=Noise(None, 1.0), to_input=False, layout=layout)
    explained = explain(call, [site], build, plan, tick)
    if settings.reduce == "mask":
        return layout.attribution(found[0].mask()) / found[0].mask().shape[layout.channel_axis]
    return explained.attribution("none" if settings.reduce == "none" else "sum")


def _prior(
    call: Call, site: NamedLayer, layout: TokenLayout, settings: Settings, tick: Tick
) -> Tensor | None:
    """Λ_G, of the input's shape; ``None``: the noise alone."""
    if settings.prior == "none":
        return None
    features = _features(call, settings, tick)
    plan, own = settings.plan, settings.plan.layout
    both = [site, settings.layer]
    with session_of(call, both, plan.to_input, plan.replay) as session:
        axes: Any = [layout, own]
        layers = Layers(call, session, axes, Noise(None, 1.0))
        x = layers.R[0].float()
        start = start_of(features, x, spread_over(x))
        match = PriorMatch(layers, features, start)
        if settings.prior == "gan":
            weight = features.ratio.lam
            if settings.variant == "published":
                match.alpha = start.clone().requires_grad_()
                weight = features.nats
            Adversarial(plan.seed, weight).fit(match, tick)
        else:
            noise = NoiseStream(
                plan.seed,
                [tuple(x.shape[1:])],
                settings.prior_fit.n_samples,
                True,
                x.device,
                [layout.kind == "sequence"],
            )
            most = require_size("internal_batch_size", plan.internal_batch_size)
            match.fit(noise, replace(settings.prior_fit, draws_per_pass=most), tick)
        return match.mask.detach()


def _features(call: Call, settings: Settings, tick: Tick) -> Features:
    """What IBA passes on at the layer."""
    kept: list[Features] = []

    def keep(problem: IBABottleneck) -> None:
        channel, ratio = problem.layers.channels[0], problem.damping(0)
        with torch.no_grad():
            nats = channel.information(ratio)
        R = problem.layers.R[0].float()
        prior = channel.prior
        kept.append(
            Features(
                R,
                type(ratio)(*(one.detach() for one in ratio)),
                prior.mean,
                prior.std,
                nats,
                problem.layers.layouts[0],
            )
        )

    build = partial(
        IBABottleneck,
        beta=settings.feature_beta,
        uniform=False,
        smoothing=None,
        objective=settings.objective,
    )
    plan = replace(settings.plan, fitting=settings.feature_fit)
    explain(call, [settings.layer], build, plan, tick, keep)
    (found,) = kept
    return found
