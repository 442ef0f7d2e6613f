"""Plain loops that follow the research code, to be measured against: no replay, no batching.

One sample at a time, full forward pass of the noise copies every step, gradients of all weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn


def bottleneck_loop(
    forward: Callable[[Tensor], Tensor],
    x: Tensor,
    layers: Sequence[nn.Module],
    loss_of: Callable[[Tensor], Tensor],
    beta: float,
    standard: bool = False,
    uniform: bool = False,
    n_steps: int = 10,
    n_samples: int = 10,
    seed: int = 0,
) -> Tensor:
    """Bits per token at the first layer of one sample, ``(T,)``."""
    found: list[Tensor] = []
    handles = [
        layer.register_forward_hook(lambda m, a, o: found.append(o.detach())) for layer in layers
    ]
    with torch.no_grad():
        forward(x)
    for handle in handles:
        handle.remove()
    stats = [
        (torch.zeros(1, 1, 1), torch.ones(1, 1, 1))
        if standard
        else (r.mean(1, keepdim=True), r.std(1, correction=0, keepdim=True).clamp_min(0.01))
        for r in found
    ]
    shape = found[0].shape[:2] + ((1,) if uniform else found[0].shape[2:])
    alpha = torch.full(shape, 5.0, requires_grad=True)
    optimizer = torch.optim.Adam([alpha], lr=1.0)
    generator = torch.Generator().manual_seed(seed)
    copies = x.expand(n_samples, *x.shape[1:])
    nats = torch.zeros(())
    for _ in range(n_steps):
        optimizer.zero_grad()
        information: list[Tensor] = []
        handles = [
            layer.register_forward_hook(_bottleneck(alpha, *stat, generator, information))
            for layer, stat in zip(layers, stats, strict=True)
        ]
        loss = loss_of(forward(copies)).mean() + beta * information[0].mean()
        for handle in handles:
            handle.remove()
        loss.backward()
        optimizer.step()
        nats = information[0].detach()
    return nats.mean(0).sum(-1) / math.log(2)


def _bottleneck(
    alpha: Tensor, mean: Tensor, std: Tensor, generator: torch.Generator, information: list[Tensor]
) -> Callable:
    def hook(module: nn.Module, args: tuple, output: Tensor) -> Tensor:
        lam = torch.sigmoid(alpha)
        noise = mean + std * torch.randn(output.shape, generator=generator)
        signal = (output - mean) / std
        log_drop = nn.functional.logsigmoid(-alpha)
        information.append(0.5 * ((lam * signal).square() + (1 - lam).square() - 1) - log_drop)
        return lam * output + (1 - lam) * noise

    return hook


def path_loop(
    forward: Callable[[Tensor], Tensor], x: Tensor, layer: nn.Module, n_steps: int = 10
) -> Tensor:
    """NIB of one sample, step by step, ``(T,)``."""
    state: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda m, a: state.append(a[0].detach()))
    with torch.no_grad():
        forward(x)
    handle.remove()
    total = torch.zeros_like(state[0])
    for step in range(1, n_steps + 1):
        point = (state[0] * (step / n_steps)).requires_grad_()
        handle = layer.register_forward_pre_hook(lambda m, a, p=point: (p, *a[1:]))
        forward(x).sum().backward()
        handle.remove()
        assert point.grad is not None
        total += point.grad / n_steps
    return (total * state[0]).sum(-1)[0]


def statistics_loop(activations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, deviation and number of non-zeros by Welford's update, one activation at a time."""
    mean, m2 = torch.zeros_like(activations[0]), torch.zeros_like(activations[0])
    nonzero = torch.zeros(activations.shape[1:], dtype=torch.long)
    for count, value in enumerate(activations, start=1):
        nonzero += (value != 0).long()
        delta = value - mean
        mean = mean + delta / count
        m2 = m2 + delta * (value - mean)
    return mean, (m2 / len(activations)).sqrt(), nonzero
