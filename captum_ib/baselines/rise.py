"""RISE: what the output is on average when a position is seen (Petsiuk et al., BMVC 2018)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_ib.baselines._masks import GridMasks, TokenMasks
from captum_ib.baselines._perturb import Canvas, Scorer, chunks, masks_per_pass
from captum_ib.baselines._samples import as_map, explained
from captum_ib.checks import require_count
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, Tick, calls_of, draw_seed, log_usage, progress
from captum_ib.hooks import borrowed, roots


class RISE(Named, PerturbationAttribution):
    """Randomized input sampling (Petsiuk et al., BMVC 2018).

    S(λ) = 1 / (E[M] · M) Σ_i f(I ⊙ M_i) · M_i(λ) (eq. 6): the mean score of the masked inputs in
    which position λ is seen. Images take smooth random masks (section 3.2), token sequences one
    bit per token — all of them where these are few. A masked pixel becomes ``baselines`` (0, the
    mean colour of a normalised image), a masked token the embedding 0.

    The masks of a call are drawn once, the same for all samples, and kept as bits; only those of
    one forward pass exist at full size.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> RISE(model).attribute(torch.rand(3, 1, 8, 8), target=1, n_masks=100, seed=0).shape
    torch.Size([3, 1, 8, 8])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="score units",
        signed=True,  # a cosine can be negative
        paper="Petsiuk et al., BMVC 2018",
        description="mean score of random masks that leave the position visible",
        passes="4000 forward",
        options={"seed": "seed"},
    )

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Any = None,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        n_masks: int = 4000,
        grid: int = 7,
        p: float = 0.5,
        score: Literal["probability", "output"] = "probability",
        perturbations_per_eval: int = 32,
        seed: int | None = None,
        show_progress: bool = False,
    ) -> Inputs:
        """Expected score per visible position. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            n_masks: masks (paper: 4000 for VGG, 8000 for ResNet).
            grid: cells per side before they are blown up (paper: 7); images only.
            p: probability of a cell to be seen (paper: 0.5).
            show_progress: show a progress bar.

        Returns:
            ``(N, 1, H, W)`` or ``(N, T)``, padding 0; a pair for a ``DualEncoder``. In units of f.
        """
        settings = _Settings(n_masks, grid, p, score, perturbations_per_eval, draw_seed(seed))
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)
        with progress(n_masks * len(calls), self.get_name(), show_progress) as tick:
            return explained(calls, partial(settings.explain, tick), baselines=baselines)


class _Settings:
    """Checked settings of a call, and the loop over masks."""

    def __init__(
        self, n_masks: int, grid: int, p: float, score: str, per_pass: int, seed: int
    ) -> None:
        require_count("n_masks", n_masks)
        require_count("grid", grid)
        if not 0 < p <= 1:
            raise ValueError(f"p must be in (0, 1], given {p}")
        self.n_masks, self.grid, self.p, self.score, self.seed = n_masks, grid, p, score, seed
        self.per_pass = masks_per_pass(per_pass, n_masks)

    def explain(self, tick: Tick, call: Call, baseline: Any) -> Tensor:
        """The map of one input."""
        canvas = Canvas.of(call, baseline)
        masks = self._masks(canvas)
        device = canvas.values.device
        with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
            total = torch.zeros(call.n, *canvas.positions, device=device, dtype=torch.float32)
            scorer = Scorer.of(canvas.call, self.score)
            for rows in chunks(len(masks), self.per_pass):
                some = masks.part(rows, device)
                scores = scorer(canvas.masked(some.unsqueeze(1)))
                total += torch.einsum("kn,k...->n...", scores, some)
                tick(len(some))
        return as_map(call, total / (self.p * len(masks)))

    def _masks(self, canvas: Canvas) -> GridMasks | TokenMasks:
        generator = torch.Generator().manual_seed(self.seed)
        if canvas.values.ndim == 4:
            height, width = canvas.positions
            return GridMasks.draw(self.n_masks, self.grid, self.p, (height, width), generator)
        return TokenMasks.draw(self.n_masks, canvas.positions[0], self.p, generator)
