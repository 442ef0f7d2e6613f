"""The input's prior as the paper fits it: a generator against a Wasserstein critic."""

# torch types neither unflatten, split nor its generators' context.
# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from captum_ib.attr.input_iba.bottlenecks import Features, PriorMatch
from captum_ib.forward import Tick

EPOCHS, BATCH, REAL, GROUPS = 20, 32, 200, 10
_CLIP = 0.01
_RATES = {"critic": 5e-5, "m": 0.1, "s": 0.05, "alpha": 0.003}


@dataclass(frozen=True)
class Adversarial:
    """A WGAN with clipped weights (Arjovsky et al., 2017), settings of the authors' code.

    Attributes:
        seed: of the critic's weights and of all draws.
        weight: what weighs features against noise in the real samples, of R's shape: Λ* as in the
            paper, or the nats K, as the authors' code has it.
    """

    seed: int
    weight: Tensor

    def fit(self, match: PriorMatch, tick: Tick | None) -> None:
        """Fit the generator's α, m and s in place, for a single sample.

        20 epochs over 200 real samples in batches of 32; the generator steps at the batches 0 and
        5 of an epoch's 7.
        """
        device = self.weight.device
        generator = torch.Generator(device).manual_seed(self.seed)
        with torch.random.fork_rng(devices=[], enabled=True):
            torch.manual_seed(self.seed)
            critic = critic_for(as_map(match.features.R, match.features)[0]).to(device)
        rates = _RATES
        optimizers = (
            torch.optim.RMSprop(critic.parameters(), lr=rates["critic"]),
            torch.optim.RMSprop(
                [{"params": [getattr(match, n)], "lr": rates[n]} for n in ("m", "s", "alpha")]
            ),
        )
        scales = _uniform(generator, GROUPS, 0, 5).repeat_interleave(REAL // GROUPS)
        shifts = _uniform(generator, GROUPS, -2, 2).repeat_interleave(REAL // GROUPS)
        for _ in range(EPOCHS):
            order = torch.randperm(REAL, generator=generator, device=device)
            for number, rows in enumerate(order.split(BATCH)):
                real = self._real(match.features, scales[rows], shifts[rows], generator)
                self._step(match, critic, optimizers, real, number in (0, 5), generator)
            if tick is not None:
                tick()

    def _real(
        self, given: Features, scales: Tensor, shifts: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draws of Z* with noise of several means and scales, as maps."""
        noise = _normal(generator, (len(scales), *given.R.shape[1:]))
        wide = (-1, *[1] * (given.R.ndim - 1))
        noise = scales.view(wide) * noise + shifts.view(wide)
        return as_map(self.weight * given.R + (1 - self.weight) * noise, given)

    def _step(
        self,
        match: PriorMatch,
        critic: nn.Module,
        optimizers: tuple[torch.optim.Optimizer, torch.optim.Optimizer],
        real: Tensor,
        generate: bool,
        generator: torch.Generator,
    ) -> None:
        """One step of the critic, and of the generator where it is its turn."""
        of_critic, of_generator = optimizers
        shape = (len(real), *match.layers.R[0].shape[1:])
        with torch.no_grad():
            fake = as_map(match.generated(_normal(generator, shape))[:, 0], match.features)
        loss = critic(fake).mean() - critic(real).mean()
        weights = list(critic.parameters())
        _descend(of_critic, weights, loss)
        with torch.no_grad():
            for weight in weights:
                weight.clamp_(-_CLIP, _CLIP)
        if generate:
            fake = as_map(match.generated(_normal(generator, shape))[:, 0], match.features)
            _descend(of_generator, [match.m, match.s, match.alpha], -critic(fake).mean())


def _descend(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], loss: Tensor) -> None:
    """A step, by gradients that touch nothing else."""
    found = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.grad = gradient
    optimizer.step()


def critic_for(features: Tensor) -> nn.Module:
    """The authors' critic for features ``(C, h, w)``.

    Convolutions C → 2C → 4C (4 × 4, stride 2) and 4C → C (3 × 3), each with batch norm and leaky
    ReLU, then linear layers of 512, 256 and 1.

    Raises:
        ValueError: fewer than 4 rows or columns.
    """
    C, h, w = features.shape
    if min(h, w) < 4:
        raise ValueError(
            f"prior='gan' needs features of at least 4 × 4 positions, given {h} × {w}; choose "
            "another layer, or prior='matched'"
        )
    sizes = ((C, 2 * C, 4, 2), (2 * C, 4 * C, 4, 2), (4 * C, C, 3, 1))
    parts: list[nn.Module] = []
    for before, behind, kernel, stride in sizes:
        convolution = nn.Conv2d(before, behind, kernel, stride, padding=1)
        parts += [convolution, nn.BatchNorm2d(behind), nn.LeakyReLU(0.2)]
    flat = C * (h // 4) * (w // 4)
    parts += [nn.Flatten(), nn.Linear(flat, 512), nn.LeakyReLU(0.2)]
    parts += [nn.Linear(512, 256), nn.LeakyReLU(0.2), nn.Linear(256, 1)]
    return nn.Sequential(*parts)


def as_map(features: Tensor, given: Features) -> Tensor:
    """Features ``(B, …)`` as ``(B, C, h, w)``; prefix and suffix tokens are left out.

    Raises:
        ValueError: features without a grid.
    """
    layout = given.layout
    if layout.kind == "nchw":
        return features
    if layout.kind == "nhwc":
        return features.movedim(-1, 1)
    if layout.kind == "tokens" and layout.grid is not None and len(layout.grid) == 2:
        tokens = features[:, layout.prefix : features.shape[1] - layout.suffix]
        return tokens.transpose(1, 2).unflatten(2, layout.grid)
    raise ValueError(
        f"prior='gan' has a critic for feature maps, and the layer is {layout.kind!r}; pass "
        "prior='matched'"
    )


def _uniform(generator: torch.Generator, count: int, low: float, high: float) -> Tensor:
    values = torch.rand(count, generator=generator, device=generator.device)
    return low + (high - low) * values


def _normal(generator: torch.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device)
