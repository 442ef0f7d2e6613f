"""Sobol attribution: the variance that a region's visibility causes (Fel et al.)."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor
from torch.nn import functional as F
from torch.quasirandom import SobolEngine

from captum_ib.baselines._perturb import Canvas, Scorer, chunks, masks_per_pass
from captum_ib.baselines._samples import as_map, explained
from captum_ib.checks import require_count
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, Tick, calls_of, draw_seed, log_usage, progress
from captum_ib.hooks import borrowed, roots


class SobolAttribution(Named, PerturbationAttribution):
    """Total Sobol indices of the regions of an input (Fel et al., NeurIPS 2021).

    With real-valued masks M ~ U[0, 1]^d on a grid of d cells, the total index of cell i is the
    share of the score's variance that is left when all but M_i is known:

        S_Ti = E[Var(f(Φ(x, M)) | M_~i)] / Var(f(Φ(x, M)))

    estimated after Jansen from quasi-Monte Carlo points A and B, Σ_j (f(A_j) − f(C_j^i))² /
    (2 n V), with C^i the points A whose column i is that of B. Φ blends to ``baselines``. Token
    sequences have one dimension per token. Between 0 and about 1; interactions count for each cell
    that takes part, so that the sum can exceed 1.

    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 2))
    >>> method = SobolAttribution(model)
    >>> method.attribute(torch.rand(3, 1, 8, 8), target=1, grid=2, n_designs=8, seed=0).shape
    torch.Size([3, 1, 8, 8])
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="share of the variance",
        signed=False,
        paper="Fel et al., NeurIPS 2021",
        description="share of the score's variance that a region's visibility takes part in",
        passes="3904 forward",
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
        n_designs: int = 32,
        grid: int = 11,
        score: Literal["probability", "output"] = "probability",
        perturbations_per_eval: int = 32,
        seed: int | None = None,
        show_progress: bool = False,
    ) -> Inputs:
        """Total index per position. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            n_designs: points n, best a power of two (paper: 32); n (d + 1) forward passes.
            grid: cells per side (paper: 11), d = grid²; images only.
            show_progress: show a progress bar.

        Returns:
            ``(N, 1, H, W)``, each pixel its cell's index, or ``(N, T)``, padding 0; a pair for a
            ``DualEncoder``.
        """
        require_count("n_designs", n_designs, 2)
        require_count("grid", grid)
        settings = (n_designs, grid, score, perturbations_per_eval, draw_seed(seed))
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)
        with progress(n_designs * len(calls), self.get_name(), show_progress) as tick:
            return explained(calls, partial(_indices, tick, *settings), baselines=baselines)


def _indices(
    tick: Tick, n: int, grid: int, score: str, per_pass: int, seed: int, call: Call, baseline: Any
) -> Tensor:
    """S_T of one input, as a map."""
    canvas = Canvas.of(call, baseline)
    device = canvas.values.device
    cells = (grid, grid) if canvas.values.ndim == 4 else canvas.positions
    d = cells[0] * cells[-1] if len(cells) == 2 else cells[0]
    # A generator of its own wants a seed of 63 bits.
    points = SobolEngine(2 * d, scramble=True, seed=seed % 2**62).draw(n).float().to(device)
    A, B = points[:, :d], points[:, d:]
    with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
        scorer = Scorer.of(canvas.call, score)

        def f(masks: Tensor) -> Tensor:
            """Scores ``(K, N)`` of masks ``(K, d)``."""
            size = masks_per_pass(per_pass, len(masks))
            return torch.cat([scorer(_blended(canvas, masks[rows], cells)) for rows in chunks(
                len(masks), size)])  # fmt: skip

        of_A = f(A)
        total = torch.zeros(call.n, d, device=device)
        for A_j, B_j, f_j in zip(A, B, of_A, strict=True):
            C_j = torch.where(torch.eye(d, device=device, dtype=torch.bool), B_j, A_j)
            total += (f_j - f(C_j)).square().T
            tick()
    V = of_A.var(dim=0).unsqueeze(1)
    # A score that nothing moves has no variance to share.
    S_T = torch.where(V > 0, total / (2 * n * V.clamp_min(torch.finfo(V.dtype).tiny)), 0.0)
    if len(cells) == 1:
        return as_map(call, S_T)
    return F.interpolate(S_T.reshape(-1, 1, *cells), canvas.positions, mode="nearest")


def _blended(canvas: Canvas, masks: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Φ(x, M) for masks ``(K, d)``: ``(K, N, …)``."""
    if len(cells) == 2:
        masks = F.interpolate(masks.reshape(-1, 1, *cells), canvas.positions, mode="nearest")[:, 0]
    return canvas.masked(masks.unsqueeze(1))
