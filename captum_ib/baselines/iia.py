"""IIA: integrals over the input and over attention, one inside the other (Barkan et al.)."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._perturb import Canvas
from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import Readout, attention_maps, follow_residual
from captum_ib.checks import BatchSize, require_choice, require_count
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, log_usage, watched
from captum_ib.layout import TokenLayout


class IIA(Named, Attribution):
    """Iterated integrated attributions (Barkan et al., ICCV 2023), for transformers.

    The input runs from the baseline to x, and at each of its points the attention of the last
    layer (``n_integrals=2``, IIA2), or of the last two (3, IIA3), runs from 0 to what it is there
    (eq. 9 with b_0 = b_L = 1, and b_{L−1} = 1). The integrand is the gradient rollout (GR):
    attention rollout with A ⊙ ∇A in the place of A. The integrals are right Riemann sums of
    ``n_steps`` points each.

    Left open by the paper, and taken here: in the rollout heads are averaged after ReLU and rows
    are not normalised, Π_l (I + E_h[(A_l ⊙ ∇A_l)⁺]), since products with gradients are no shares
    of 1; the factor A_L in front of the inner integral is part of each of its points. Values are
    ≥ 0 and relative.

    ``n_steps`` forward passes of ``n_steps`` rows per sample, or ``n_steps²`` rows for IIA3.

    >>> from captum_ib import zoo
    >>> model = zoo.load("vit-scenes").model
    >>> size = model.patch_embed.img_size
    >>> IIA(model).attribute(torch.rand(1, 3, *size), target=0, n_steps=2).shape[:2]
    torch.Size([1, 1])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="relative",
        signed=False,
        paper="Barkan et al., ICCV 2023",
        description="gradient rollout, integrated over input and attention",
        passes="101 forward and backward",
        options={"steps": "n_steps"},
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        n_steps: int = 10,
        *,
        n_integrals: int = 2,
        readout: Readout = None,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Relevance per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            baselines: where the input starts.
            n_steps: points of each integral (paper: 10).
            n_integrals: 2 or 3, see the class.
            internal_batch_size: most rows (samples · points of the inner integrals) per pass; at
                least one sample at a time; default all.
        """
        require_count("n_steps", n_steps)
        require_choice("n_integrals", n_integrals, (2, 3))
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, baseline: Any, layout: TokenLayout | None) -> Tensor:
            maps = attention_maps(call)
            row, depth = maps.readout(readout), len(maps.probabilities)
            if depth < n_integrals - 1:
                raise ValueError(
                    f"n_integrals={n_integrals} needs {n_integrals - 1} attention layers, the "
                    f"model has {depth}"
                )
            canvas = Canvas.of(call, baseline)
            inner = _Inner(n_steps, n_integrals - 1, depth, call.n)
            total = torch.zeros_like(row)
            for step in watched(range(1, n_steps + 1)):
                state = torch.lerp(canvas.baseline, canvas.values, step / n_steps)
                total += inner.mean(canvas.at(state), row)
            return maps.map(total / n_steps, layout)

        rows = n_steps ** (n_integrals - 1)
        return explained(
            calls, relevance, internal_batch_size, rows, baselines=baselines, layout=layout
        )


class _Inner:
    """The integrals over attention at one point of the input: all their points in one pass."""

    def __init__(self, n_steps: int, layers: int, depth: int, n: int) -> None:
        points = [step / n_steps for step in range(1, n_steps + 1)]
        self.scales = torch.tensor(
            list(itertools.product(points, repeat=layers)), dtype=torch.float32
        )
        self.first, self.n = depth - layers, n

    def mean(self, call: Call, row: Tensor) -> Tensor:
        """The mean gradient rollout, ``(N, T)``."""
        repeats = len(self.scales)
        maps = attention_maps(call, transform=self._scale, repeats=repeats)
        weighted = [
            (attention * gradient).clamp_min(0).mean(dim=1)
            for attention, gradient in zip(maps.probabilities, maps.gradients, strict=True)
        ]
        return follow_residual(row.repeat(repeats, 1), weighted).unflatten(0, (repeats, -1)).mean(0)

    def _scale(self, index: int, probabilities: Tensor) -> Tensor:
        if index < self.first:
            return probabilities
        factors = self.scales[:, index - self.first].repeat_interleave(self.n)
        return probabilities * factors.to(probabilities).view(-1, 1, 1, 1)
