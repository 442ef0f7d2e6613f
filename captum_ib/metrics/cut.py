"""Noise in place of some positions of some layers, and what the model answers then."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ib.bottleneck import NoiseStream, Prior
from captum_ib.hooks import Session
from captum_ib.layout import TokenLayout


def cut_outputs(
    session: Session,
    replace: Sequence[Tensor],
    priors: Sequence[Prior],
    n_draws: int,
    draws_per_pass: int,
    seed: int,
    sequences: Sequence[bool] | None = None,
) -> Tensor:
    """Outputs ``(n_draws, N, …)``, float32, with ε ~ N(μ, σ²) wherever ``replace`` is true.

    Args:
        session: the borrowed model.
        replace: per layer, bool, broadcastable to its activation.
        priors: per layer, mean and standard deviation of the noise.
        n_draws: noise draws, the same for every sample.
        draws_per_pass: how many go through the model at once.
        seed: of the noise; the result does not depend on ``draws_per_pass``.
        sequences: per layer, whether it is a sequence, whose noise belongs to its positions.
    """
    n = session.activations[0].shape[0]
    shapes = [tuple(activation.shape[1:]) for activation in session.activations]
    device = session.activations[0].device
    noise = NoiseStream(seed, shapes, 1, False, device, sequences)
    outputs = []
    for start in range(0, n_draws, draws_per_pass):
        count = min(draws_per_pass, n_draws - start)
        passes = [noise.draw() for _ in range(count)]
        draws = [torch.cat(layer).unsqueeze(1) for layer in zip(*passes, strict=True)]

        def put(
            index: int, activation: Tensor, draws: list[Tensor] = draws, count: int = count
        ) -> Tensor:
            signal = activation.float().unflatten(0, (count, n))
            noisy = priors[index].mean + priors[index].std * draws[index]
            mixed = torch.where(replace[index], noisy, signal)
            return mixed.flatten(0, 1).to(activation.dtype)

        with torch.no_grad():
            outputs.append(session.run(count, put).unflatten(0, (count, n)).float())
    return torch.cat(outputs)


def at_layer(low: Tensor, activation: Tensor, layout: TokenLayout, name: str) -> Tensor:
    """A map's marked positions, broadcastable to the activation; what the map leaves out stays.

    Raises:
        ValueError: a map of another size than the layer.
    """
    if low.shape == activation.shape:
        return low
    if layout.spatial and low.ndim == 4 and low.shape[1] == 1:
        rows, columns = layout.grid_of(activation)
        if low.shape[2] >= rows and low.shape[3] >= columns and low.shape[2] % rows == 0:
            # A coarser layer's cell goes only where all finer cells that it covers go.
            kept = F.adaptive_max_pool2d((~low).float(), (rows, columns))
            cells = (kept == 0).flatten(2).movedim(1, -1)
            prefix = cells.new_zeros(len(cells), layout.prefix, 1)
            return layout.arrange(torch.cat([prefix, cells], 1), (rows, columns))
    if layout.kind in ("sequence", "ncl") and low.ndim == 2:
        positions = layout.tokens(activation).shape[1]
        if low.shape[1] == positions:
            return low.unsqueeze(layout.channel_axis)
    raise ValueError(
        f"attr of shape {tuple(low.shape)} does not fit layer {name}, whose activation is "
        f"{tuple(activation.shape)}; give what attribute() returned, before any upsampling"
    )
