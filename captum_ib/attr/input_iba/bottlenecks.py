"""InputIBA's equations: features that predict, the input's prior that explains them, the input.

Letters: R the features f(x) at a hidden layer, Λ* the damping ratio that IBA finds there, x the
input, Λ_G the generator's mask over it, Λ that of the input bottleneck.
"""

# torch does not type split.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ib.attr.fitting import Bottlenecks, Layers
from captum_ib.bottleneck import Damping, DampingRatio, FitSettings, NoiseStream, Terms
from captum_ib.forward import Call, Objective
from captum_ib.layout import TokenLayout

_EDGE = 1e-3  # how near to 0 and 1 Λ_G starts


@dataclass(frozen=True)
class Features:
    """What the feature bottleneck passes on, Z* = Λ* R + (1 − Λ*)ε with ε ~ N(μ, σ²).

    Attributes:
        R: the features, ``(N, …)``.
        ratio: Λ*, of R's shape.
        mean: μ, broadcastable to R.
        std: σ, likewise.
        nats: KL[P(Z*|R) ‖ N(μ, σ²)] per element.
        layout: the layer's axes.
    """

    R: Tensor
    ratio: DampingRatio
    mean: Tensor
    std: Tensor
    nats: Tensor
    layout: TokenLayout


class PriorMatch:
    """Λ_G by a closed-form distance; ours, in the place of the paper's GAN.

    Z_G = Λ_G x + (1 − Λ_G)ε_G with ε_G ~ N(m, s²) per channel is to give features f(Z_G) that are
    distributed as Z*. For each feature both are taken for Gaussians, whose squared 2-Wasserstein
    distance is the sum of the squared differences of means and of standard deviations; the sum
    over features, in units of σ, is minimised. Means and deviations are those of a step's draws.

    Args:
        layers: the input, then the feature layer.
        features: what the feature bottleneck passes on.
        start: Λ_G at first, ``(N, …)`` of the input's shape, in [0, 1].
    """

    def __init__(self, layers: Layers[Call], features: Features, start: Tensor) -> None:
        self.layers, self.features = layers, features
        self.alpha = start.clamp(_EDGE, 1 - _EDGE).logit().requires_grad_()
        shape = _per_channel(layers.R[0], layers.layouts[0])
        self.m = torch.zeros(shape, device=start.device, requires_grad=True)
        self.s = torch.ones(shape, device=start.device, requires_grad=True)

    @property
    def mask(self) -> Tensor:
        """Λ_G."""
        return torch.sigmoid(self.alpha)

    def generated(self, draw: Tensor) -> Tensor:
        """f(Z_G) for some draws, ``(draws, N, …)``."""
        return features_of(self.layers, self.mask, self.m + self.s * draw.unsqueeze(1))

    def fit(self, noise: NoiseStream, settings: FitSettings, tick: Callable[[], object]) -> None:
        """Adam on Λ_G's α and the noise's mean and scale, in place."""
        parameters = [self.alpha, self.m, self.s]
        optimizer = torch.optim.Adam(parameters, lr=settings.lr)
        for _ in range(settings.n_steps):
            gradients = self.gradients(noise.draw()[0], settings.draws_per_pass)
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            tick()

    def gradients(self, draws: Tensor, at_once: int | None) -> list[Tensor]:
        """Of the summed W₂², by α, m and s, for all draws of a step.

        W₂² needs the moments of all draws; so these come first, and its derivative by each f(Z_G)
        is then written out, which draws can take on their way back alone.
        """
        parameters, size = [self.alpha, self.m, self.s], at_once or len(draws)
        if len(draws) <= size:
            with torch.enable_grad():
                F = self.generated(draws)
            return list(torch.autograd.grad(F, parameters, self.derivative(F.detach())))
        parts = draws.split(size)
        with torch.no_grad():
            every = torch.cat([self.generated(part) for part in parts])
        total: list[Tensor] = []
        for part, given in zip(parts, self.derivative(every).split(size), strict=True):
            with torch.enable_grad():
                some = self.generated(part)
            new = torch.autograd.grad(some, parameters, given)
            total = [a + b for a, b in zip(total or [0] * len(new), new, strict=True)]
        return total

    def distance(self, F: Tensor) -> Tensor:
        """W₂² between f(Z_G), ``(draws, N, …)``, and Z*, per sample."""
        means, spreads, _ = self._differences(F)
        return (means.square() + spreads.square()).flatten(1).sum(dim=1)

    def derivative(self, F: Tensor) -> Tensor:
        """Of W₂² by F."""
        means, spreads, away = self._differences(F)
        return 2 / len(F) * (means + spreads * away) / self.features.std

    def _differences(self, F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of means and of deviations, in units of σ; and how far F is from its mean, in its own."""
        given = self.features
        wanted = torch.lerp(given.mean.expand_as(given.R), given.R, given.ratio.lam)
        mean, std = F.mean(dim=0), F.std(dim=0, correction=0)
        away = (F - mean) / std.clamp_min(torch.finfo(F.dtype).eps)
        return (mean - wanted) / given.std, std / given.std - given.ratio.rest, away


class InputBottleneck(Bottlenecks):
    """Z = Λx + (1 − Λ)ε at the input, whose information is counted against Λ_G.

    What Λ_G passes is known beforehand and costs nothing: with
    λ' = Λ(1 − Λ_G)/(1 − ΛΛ_G), the ratio behind Λ_G, the information is
    KL[N(λ'x, (1 − λ')²) ‖ N(0, 1)] in units of the noise: what the paper writes with
    v = (1 − Λ)²/(1 − ΛΛ_G)² and μ = Λ(1 − Λ_G)x/(1 − ΛΛ_G).

    Args:
        layers: the input.
        given: Λ_G, ``(N, …)`` of the input's shape; 0 everywhere: no prior but the noise.
        beta, objective: see :meth:`InputIBA.attribute`.
        smoothing: σ of the Gaussian over Λ, in pixels; ``None`` for none.
    """

    def __init__(
        self,
        layers: Layers[Call],
        given: Tensor,
        beta: float,
        smoothing: float | None,
        objective: Objective,
    ) -> None:
        self.layers, self.given, self.beta = layers, given, beta
        self.objective = layers.call.along_classes(objective)
        own, layouts = layers.R[:1], layers.layouts[:1]
        self.damping = Damping.shared(own, layouts, uniform=False, smoothing=smoothing)

    def loss(self, draws: list[Tensor]) -> Terms:
        """Cross-entropy + β · the mean information."""
        lam, channel = self.damping(0), self.layers.channels[0]
        output = self.layers.run(lambda _, R: channel.pass_on(R, lam, draws[0]), len(draws[0]))
        L_CE = self.objective(output, self.layers.call.index(output))
        L_I = channel.mean(channel.information(behind(lam, self.given)))
        return Terms(self.layers.by_draw(L_CE), self.beta * L_I)

    def information(self) -> list[Tensor]:
        """What passes in all, nats per element: KL[N(Λx, (1 − Λ)²) ‖ N(0, 1)].

        Counted against Λ_G, as in the loss, the pixels that matter most would have none: the prior
        passes them for nothing.
        """
        return [self.layers.channels[0].information(self.damping(0))]

    def mask(self) -> Tensor:
        """sigmoid(α), before it is smoothed."""
        return torch.sigmoid(self.damping.alphas[0].detach())


def behind(ratio: DampingRatio, given: Tensor) -> DampingRatio:
    """λ' = Λ(1 − Λ_G)/(1 − ΛΛ_G): what Λ passes beyond what Λ_G has passed.

    >>> from captum_ib.bottleneck import damping_ratio
    >>> half = damping_ratio(torch.zeros(2))
    >>> behind(half, torch.tensor([0.0, 0.5])).lam
    tensor([0.5000, 0.3333])
    """
    kept = ratio.rest + ratio.lam * (1 - given)
    log_rest = ratio.log_rest - torch.log(kept)
    return DampingRatio(ratio.lam * (1 - given) / kept, ratio.rest / kept, log_rest)


def features_of(layers: Layers[Call], mask: Tensor, noise: Tensor) -> Tensor:
    """f(mask · x + (1 − mask) · noise) at the second of two layers, ``(draws, N, …)``."""
    found: list[Tensor] = []

    def at(index: int, R: Tensor) -> Tensor:
        if index:
            found.append(R)
            return R
        return torch.lerp(noise.expand_as(R), R, mask)

    layers.run(at, len(noise))
    return found[0]


def start_of(features: Features, like: Tensor, spread: Callable[[Tensor], Tensor]) -> Tensor:
    """Λ_G at first: what of the features' bits lies over each place of the input, at most 1.

    Args:
        features: what the feature bottleneck passes on.
        like: the input, ``(N, …)``.
        spread: a map over the features' positions to one over the input's, of its shape.
    """
    bits = features.layout.attribution(features.nats / torch.log(torch.tensor(2.0)))
    places = bits.flatten(1).shape[1] / max(_places(like), 1)
    return spread(bits * places).expand_as(like)


def _places(x: Tensor) -> int:
    """Pixels or words of one sample."""
    return x.shape[1] if x.ndim == 3 else x[0, 0].numel()


def _per_channel(x: Tensor, layout: TokenLayout) -> tuple[int, ...]:
    """Shape of one value per sample and channel."""
    shape = [len(x)] + [1] * (x.ndim - 1)
    shape[layout.channel_axis] = x.shape[layout.channel_axis]
    return tuple(shape)
