"""What a path of fits found: bits against the confidence that they keep, and the map at a share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Point:
    """One fit of N samples, seen on the draws that all fits share.

    Attributes:
        rest: r = 1 − λ, in the shape of α.
        fit: the objective, ``(N,)``.
        nats: the mean KL, ``(N,)``.
        score: the explained value through the noise, ``(N,)``.
        bits: the map, without prefix tokens.
        total: bits of all tokens, ``(N,)``.
    """

    rest: Tensor
    fit: Tensor
    nats: Tensor
    score: Tensor
    bits: Tensor
    total: Tensor


@dataclass(frozen=True)
class Curve:
    """The rate–distortion curve of N samples, and the map where ``keep`` of the value is left.

    Attributes:
        betas: β along the path, ``(B,)``.
        bits: bits that pass the first bottleneck, all tokens together, ``(N, B)``; they fall.
        kept: share of the explained value that is left, ``(N, B)``; of a class p(Z)/p, of a scalar
            or a similarity (s(Z) − s(noise)) / (s − s(noise)), or 1 + s(Z) − s where the
            clean value can't be told from that of noise, or is below it.
        loss: the loss that the method minimises, ``(N, B)``; it rises.
        floor: share kept with noise everywhere, ``(N,)``: what the noise itself says.
        maps: bits by position at every β, ``(N, B, …)``.
        keep: the share that was asked for; ``None``: none, the map is that of the last β.
        bits_at_keep: fewest bits found that keep it, ``(N,)``.
        kept_at_keep: what they keep, on the draws of the fit, ``(N,)``.
        reached: whether any fit keeps that share, ``(N,)``; where none does, the map is of the one
            that keeps most.
        agreement: correlation of the maps that the ways up and down the path end in, at the β next
            to ``keep``, ``(N,)``; 1 where both are the same.
        competing: whether two solutions compete, ``(N,)``: agreement below 0.9, losses within 5 %
            of each other, and at least one bit in the map.
        n_draws: fresh draws of the certificate.
        stays: share of them in which the predicted class stays or, of a scalar, in which it keeps
            at least ``keep`` (without one: ``kept_at_keep``), ``(N,)``.
        low: lower end of the 95 % Wilson interval of ``stays``, ``(N,)``.
        high: its upper end, ``(N,)``.
        passes: forward and backward passes that the fits took, per part of the call.
    """

    betas: Tensor
    bits: Tensor
    kept: Tensor
    loss: Tensor
    floor: Tensor
    maps: Tensor
    keep: float | None
    bits_at_keep: Tensor
    kept_at_keep: Tensor
    reached: Tensor
    agreement: Tensor
    competing: Tensor
    n_draws: int
    stays: Tensor
    low: Tensor
    high: Tensor
    passes: int

    @staticmethod
    def concatenate(parts: Sequence[Curve]) -> Curve:
        """One curve for the samples of several."""
        first = parts[0]
        joined: dict[str, Any] = {}
        for one in fields(Curve):
            value = getattr(first, one.name)
            several = isinstance(value, Tensor) and one.name != "betas"
            joined[one.name] = (
                torch.cat([getattr(part, one.name) for part in parts]) if several else value
            )
        return Curve(**joined)

    def __str__(self) -> str:
        """One line per sample, as a report could quote it."""
        rows = zip(
            self.bits_at_keep.tolist(),
            self.kept_at_keep.tolist(),
            self.stays.tolist(),
            self.low.tolist(),
            self.high.tolist(),
            self.reached.tolist(),
            self.competing.tolist(),
            strict=True,
        )
        return "\n".join(
            f"sample {number}: {bits:.1f} bits keep {kept:.1%}; the answer stays in {stays:.1%} of "
            f"{self.n_draws} fresh draws (95% interval {low:.1%} to {high:.1%})"
            + ("" if reached else f"; no fit keeps {self.keep:.0%}")
            + ("; two solutions compete" if competing else "")
            for number, (bits, kept, stays, low, high, reached, competing) in enumerate(rows)
        )

    def plot(self, path: str | Path | None = None) -> Any:
        """The share kept against the bits, a line per sample; a matplotlib figure.

        Args:
            path: where to save it.
        """
        from captum_ib.metrics.plots import COLOURS, drawn

        with drawn(3.4, 2.4, path) as (figure, axes):
            for number in range(len(self.bits)):
                colour = COLOURS[number % len(COLOURS)]
                axes.plot(self.bits[number], self.kept[number], "o-", color=colour)
                at = self.bits_at_keep[number], self.kept_at_keep[number]
                axes.plot(*at, "*", color=colour, markersize=7)
            if self.keep is not None:
                axes.axhline(self.keep, color="0.6", linewidth=0.6, linestyle="--")
            axes.set(xlabel="bits", ylabel="share kept", xscale="symlog")
            axes.set_xlim(left=0)
            axes.grid(True)
        return figure

    def strip(self, sample: int = 0, path: str | Path | None = None) -> Any:
        """One sample's maps along the path, the cheapest last; a matplotlib figure.

        Args:
            sample: which one.
            path: where to save it.
        """
        from matplotlib.figure import Figure

        from captum_ib.metrics.plots import finish, paper_style
        from captum_ib.visualization.numbers import amount

        with paper_style():
            count = len(self.betas)
            figure = Figure(figsize=(1.1 * count, 1.8), layout="constrained")
            row = figure.subplots(1, count, squeeze=False)[0]
            for number, axes in enumerate(row):
                values = self.maps[sample, number]
                image = values[0] if values.ndim == 3 else values.reshape(1, -1)
                axes.imshow(np.asarray(image.cpu()), cmap="viridis", vmin=0)
                axes.set(xticks=[], yticks=[])
                bits, kept = self.bits[sample, number], self.kept[sample, number]
                axes.set_title(
                    f"β {self.betas[number]:.3g}\n{amount(float(bits), 'bits')}\n{kept:.0%} kept"
                )
            return finish(figure, path)
