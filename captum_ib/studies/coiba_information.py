"""Information and accuracy at the fitted bottlenecks: CoIBA, eq. 7 and Fig. 9 a to c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from captum_ib.attr import CoIBA
from captum_ib.attr.base import Explained
from captum_ib.bottleneck import to_bits
from captum_ib.models.layers import default_layers
from captum_ib.studies.coiba_numbers import Mean, agrees, lines, mean_of, paired, ticks_of
from captum_ib.studies.findings import Findings
from captum_ib.studies.material import Material

DRAWS = 10
"""Noise draws that information behind the first layer, and accuracy, are averaged over."""


@dataclass(frozen=True)
class Passed:
    """What passes the fitted bottlenecks.

    Attributes:
        bits: ``(N, L)``, KL at each layer for the activation that the bottlenecks before it have
            passed, mean bits per element, over :data:`DRAWS` draws.
        right: ``(N,)``, share of the draws for which the class that is explained still wins.
        fit, compression: ``(steps, N)``, the terms of the loss in nats.
    """

    bits: np.ndarray
    right: np.ndarray
    fit: np.ndarray
    compression: np.ndarray


class Observed(CoIBA):
    """CoIBA that looks at its bottlenecks right behind the fit, while they are in the model."""

    def _explain(self, *args: Any, **kwargs: Any) -> list[Explained]:
        self.bits: list[Tensor] = []
        self.right: list[Tensor] = []
        return super()._explain(*args, **kwargs, fitted=self._look)

    def _look(self, problem: Any) -> None:
        layers, found = problem.layers, []
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            lam = [problem.damping(index) for index in range(len(layers.channels))]

            def bottleneck(index: int, R: Tensor) -> Tensor:
                channel = layers.channels[index]
                nats = channel.information(lam[index], channel.normalized(R))
                found.append(torch.stack([channel.mean(draw) for draw in nats]).mean(dim=0))
                draw = torch.randn(len(R), *R.shape[2:], generator=generator).to(R)
                return channel.pass_on(R, lam[index], draw)

            output = layers.run(bottleneck, DRAWS)
            index = layers.call.index(output)
            logits = output.unflatten(0, (DRAWS, -1))
            won = logits.argmax(dim=-1) == index[:, 0].to(logits.device)
        self.bits.append(torch.stack([to_bits(values) for values in found], dim=1))
        self.right.append(won.float().mean(dim=0))


def passed(material: Material, layers: Sequence[str], **settings: Any) -> Passed:
    """Fit CoIBA's bottlenecks in some layers and look at what passes them."""
    method, traces = Observed(material.model, list(layers)), []
    bits, right = [], []
    for batch in material.batches:
        _, trace = method.attribute(
            batch.pixels, target=batch.question, seed=material.seed, return_trace=True, **settings
        )
        bits += method.bits
        right += method.right
        traces.append((trace.fit.numpy(), trace.compression.numpy()))
    fit, compression = (np.concatenate(values, axis=1) for values in zip(*traces, strict=True))
    return Passed(torch.cat(bits).cpu().numpy(), torch.cat(right).cpu().numpy(), fit, compression)


def layers(material: Material) -> Findings:
    """Information at each layer for one λ, compressed at the first layer (eq. 8) or at all (eq. 4).

    Eq. 7 says that what passes the first bottleneck bounds what passes the others. That is a
    statement on mutual information; what is computed, and minimised, is the KL divergence from the
    prior, an upper bound of it, and upper bounds need not be in the same order.
    """
    names = _default(material)
    found = {
        "first layer (eq. 8)": passed(material, names),
        "all layers (eq. 4)": passed(material, names, compression="layerwise"),
    }
    means = {label: [mean_of(x) for x in one.bits.T] for label, one in found.items()}
    ours = found["first layer (eq. 8)"].bits
    rising = (ours[:, 1:] > ours[:, :1]).any(axis=1)
    table = pd.DataFrame({"layer": names})
    for label, one in means.items():
        table[f"bits, {label}"] = [mean.value for mean in one]
        table[f"error, {label}"] = [mean.error for mean in one]
    said = (
        f"KL at the first bottleneck: {means['first layer (eq. 8)'][0]} bits per element, at the "
        f"last {means['first layer (eq. 8)'][-1]} ({len(ours)} samples).",
        f"Some later bottleneck has a larger KL than the first one in {int(rising.sum())} of "
        f"{len(ours)} samples. Eq. 7 orders mutual information, of which the KL is an upper bound; "
        + (
            "the computed bounds are not in its order."
            if rising.any()
            else "here the computed bounds are in its order."
        ),
    )
    figure = lines(means, ticks_of(names), xlabel="layer", ylabel="KL (bits per element)")
    return Findings({"information": table}, {"information": figure}, said)


def accuracy(material: Material) -> Findings:
    """How often the class survives the noise, against the number of layers with a bottleneck."""
    names = [name for name, _ in default_layers(material.model, "coiba", "auto")]
    counts = sorted({1, 2, *range(2, len(names) + 1, 2), len(names)})
    means: dict[str, list[Mean]] = {"shared λ": [], "individual λ": []}
    right: dict[str, list[np.ndarray]] = {label: [] for label in means}
    for count in counts:
        for label, damping in (("shared λ", "shared"), ("individual λ", "individual")):
            one = passed(material, names[-count:], damping=damping)
            right[label].append(100 * one.right)
            means[label].append(mean_of(100 * one.right))
        material.tell(f"{count} layers")
    gaps = [paired(a, b) for a, b in zip(*right.values(), strict=True)]
    table = pd.DataFrame(
        {
            "layers": counts,
            **{label: [mean.value for mean in found] for label, found in means.items()},
            "shared − individual": [gap.value for gap in gaps],
            "error": [gap.error for gap in gaps],
        }
    )
    said = (
        f"The class that is explained survives the fitted noise in {means['shared λ'][0]} % of the "
        f"draws with one layer and {means['shared λ'][-1]} % with {counts[-1]}, λ shared "
        f"({len(material)} samples).",
        f"Shared − individual with all layers: {gaps[-1]} points ({gaps[-1].said}).",
    )
    figure = lines(
        means, [str(count) for count in counts], xlabel="layers with a bottleneck (the last ones)",
        ylabel="accuracy through the noise (%)",
    )  # fmt: skip
    return Findings({"accuracy": table}, {"accuracy": figure}, said)


def sharing(material: Material) -> Findings:
    """One λ for all layers against one per layer: the fit's terms, and the maps' scores."""
    names = _default(material)
    kinds = {"shared λ": "shared", "individual λ": "individual"}
    found = {label: passed(material, names, damping=kind) for label, kind in kinds.items()}
    scores = {
        label: material.score(material.explain("coiba", damping=kind), "insdel")
        for label, kind in kinds.items()
    }
    curves = {
        f"{term}, {label}": [mean_of(step) for step in getattr(one, field)]
        for label, one in found.items()
        for term, field in (("cross-entropy", "fit"), ("information", "compression"))
    }
    gap = paired(*scores.values())
    last = paired(*(one.bits[:, 1:].mean(axis=1) for one in found.values()))
    rows = {
        label: {
            "ΔInsDel": mean_of(scores[label]).value,
            "error": mean_of(scores[label]).error,
            "bits at the first layer": one.bits[:, 0].mean(),
            "bits at the others": one.bits[:, 1:].mean(),
            "accuracy": one.right.mean(),
        }
        for label, one in found.items()
    }
    said = (
        f"ΔInsDel, shared − individual: {gap} ({gap.said}, paired, {len(material)} samples). The "
        f"paper has the shared ratio ahead: {agrees(gap)}.",
        f"KL behind the first layer, shared − individual: {last} bits per element ({last.said}): "
        "a ratio of its own is not compressed there.",
    )
    figure = lines(
        curves, [str(step) for step in range(len(next(iter(found.values())).fit))], xlabel="step",
        ylabel="nats",
    )  # fmt: skip
    table = pd.DataFrame(rows).T.rename_axis("λ").reset_index()
    return Findings({"sharing": table}, {"fit": figure}, said)


def _default(material: Material) -> list[str]:
    return [name for name, _ in default_layers(material.model, "coiba")]
