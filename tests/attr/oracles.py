"""Plain loops after the papers' equations: full forward passes, one sample at a time, no replay.

They share nothing with the library but the noise: float64, ``torch.distributions`` for the
information, ``loss.backward()`` through the whole model.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence


def noise_of(
    seed: int, shapes: Sequence[tuple], n_samples: int, antithetic: bool, sequences: bool = False
) -> Callable:
    """Draws step by step, made as the documentation says.

    Grids: one generator, layer after layer. Sequences: one generator for every 64 positions.
    """
    one = torch.Generator().manual_seed(seed)
    steps = itertools.count()

    def half_of(step: int, layer: int, fresh: int, shape: tuple) -> Tensor:
        if not sequences:
            return torch.randn((fresh, *shape), generator=one)
        noise = torch.empty(fresh, *shape)
        for first in range(0, shape[0], 64):
            own = torch.Generator().manual_seed(mixed(seed, step, layer, first // 64))
            block = torch.randn((fresh, 64, *shape[1:]), generator=own)
            noise[:, first : first + 64] = block[:, : shape[0] - first]
        return noise

    def draw() -> list[Tensor]:
        draws, step = [], next(steps)
        for layer, shape in enumerate(shapes):
            fresh = -(-n_samples // 2) if antithetic else n_samples
            half = half_of(step, layer, fresh, shape)
            both = torch.stack([half, -half], 1).flatten(0, 1)[:n_samples]
            draws.append(both if antithetic else half)
        return draws

    return draw


def mixed(*numbers: int) -> int:
    """SplitMix64 of the numbers, each put into the state by exclusive or; its lower 63 bits."""
    state = np.uint64(0)
    with np.errstate(over="ignore"):
        for number in numbers:
            state = (state ^ np.uint64(number)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return int(state & np.uint64(2**63 - 1))


def plain_fit(
    model: nn.Module,
    x: Tensor,
    layers: Sequence[nn.Module],
    loss_of: Callable[[Tensor], Tensor],
    lam_of: Callable[[Tensor, int], Tensor],
    alpha: Tensor,
    stats: Sequence[tuple[Tensor, Tensor]],
    draw: Callable,
    beta: float | Sequence[float],
    n_steps: int,
    layerwise: bool = False,
) -> list[Tensor]:
    """The information per layer (nats, layer-shaped) at the last evaluated α of one sample."""
    optimizer = torch.optim.Adam([alpha], lr=1.0)
    kls: list[Tensor] = []
    for _ in range(n_steps):
        draws = draw()
        seen: dict[int, Tensor] = {}
        handles = []
        for index, layer in enumerate(layers):

            def hook(module, args, output, index=index, draws=draws, seen=seen):
                signal, *rest = output if isinstance(output, tuple) else (output,)
                mean, std = stats[index]
                lam = lam_of(alpha, index)
                noise = draws[index].double()
                code = Normal(lam * signal + (1 - lam) * mean, (1 - lam) * std)
                seen[index] = kl_divergence(code, Normal(mean, std).expand(code.batch_shape))
                noisy = lam * signal + (1 - lam) * (mean + std * noise)
                return (noisy, *rest) if isinstance(output, tuple) else noisy

            handles.append(layer.register_forward_hook(hook))
        output = model(x.expand(len(draws[0]), *x.shape[1:]))
        for handle in handles:
            handle.remove()
        kls = [seen[index] for index in range(len(layers))]
        if layerwise:
            weights = beta if isinstance(beta, Sequence) else [beta] * len(layers)
            parts = [b * kl.mean() for b, kl in zip(weights, kls, strict=True)]
            compression = torch.stack(parts).mean()
        else:
            compression = beta * kls[0].mean()
        optimizer.zero_grad()
        (loss_of(output).mean() + compression).backward()
        optimizer.step()
    model.zero_grad(set_to_none=True)
    return [kl.detach().mean(dim=0) for kl in kls]


def activations(model: nn.Module, x: Tensor, layers: Sequence[nn.Module]) -> list[Tensor]:
    """What the layers give in a plain pass."""
    found: dict[int, Tensor] = {}
    handles = [
        layer.register_forward_hook(lambda m, a, o, i=i: found.update({i: o.detach()}))
        for i, layer in enumerate(layers)
    ]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return [found[i] for i in range(len(layers))]


def token_stats(activation: Tensor, axis: int = 1) -> tuple[Tensor, Tensor]:
    """Mean and deviation per channel over the tokens, on ``axis``, of one sample."""
    mean = activation.mean(dim=axis, keepdim=True)
    std = activation.var(dim=axis, keepdim=True, unbiased=False).sqrt().clamp_min(0.01)
    return mean, std


def bits(nats: Tensor) -> Tensor:
    """Nats → bits."""
    return nats / math.log(2.0)
