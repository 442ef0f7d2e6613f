"""Kernel SHAP: Shapley values of regions and tokens by a weighted regression (Lundberg & Lee)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import captum.attr
import torch
from captum.attr import PerturbationAttribution
from torch import Tensor

from captum_ib.baselines._perturb import Canvas, Scorer, masks_per_pass
from captum_ib.baselines._samples import as_map, explained
from captum_ib.checks import require_count
from captum_ib.extras import need
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, draw_seed, log_usage
from captum_ib.hooks import borrowed, roots


class KernelSHAP(Named, PerturbationAttribution):
    """Kernel SHAP (Lundberg & Lee, NeurIPS 2017) on regions of images and on tokens.

    The players of an image are the cells of a ``grid``, or the regions of ``feature_mask``
    (patches, superpixels); those of a text are its tokens without padding. A coalition keeps its
    players, the others become ``baselines`` (0, the mean colour of a normalised image; for token
    ids a blank token, by default the embedding 0). The regression of scores on coalitions, whose
    coefficients are the Shapley values φ (Theorem 2), is Captum's :class:`captum.attr.KernelShap`.
    The coalitions are the same for all samples: every one of the 2^M with its Shapley kernel where
    these are no more than ``n_samples``, which is exact, else random ones.

    >>> weight = torch.tensor([1.0, -2.0, 3.0])
    >>> a = KernelSHAP(lambda v: v[..., 0] @ weight).attribute(torch.ones(1, 3, 1))
    >>> torch.allclose(a, weight, atol=1e-3)
    True
    """

    facts = Facts(
        takes=frozenset({"classifier", "dual"}),
        unit="score units",
        signed=True,
        paper="Lundberg & Lee, NeurIPS 2017",
        description="Shapley value of the region or token, by regression on random coalitions",
        passes="512 forward",
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
        n_samples: int = 512,
        grid: int = 7,
        feature_mask: Tensor | None = None,
        score: Literal["probability", "output"] = "output",
        perturbations_per_eval: int = 32,
        seed: int | None = None,
    ) -> Inputs:
        """Shapley values. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            n_samples: most coalitions per sample, the empty and the full one among them.
            grid: cells per side of an image (7: the patches of ViT-B/32).
            feature_mask: ``(H, W)`` of whole numbers, the region of each pixel, in the place of the
                grid; for a pair it is the image's.

        Returns:
            ``(N, 1, H, W)``, every pixel with the value of its region, or ``(N, T)``, padding 0; a
            pair for a ``DualEncoder``. In units of f.

        Raises:
            ValueError: fewer coalitions than the regression has unknowns; a ``feature_mask`` of
                another shape.
            ImportError: scikit-learn is not installed.
        """
        need("sklearn", "the regression of Kernel SHAP")
        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)
        require_count("grid", grid)
        settings = _Settings(
            require_count("n_samples", n_samples),
            grid,
            feature_mask,
            score,
            masks_per_pass(perturbations_per_eval, n_samples),
            draw_seed(seed),
        )
        for call in calls:  # the samples go one by one: a target for each is asked for here
            with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
                Scorer.of(call, score)
        return explained(calls, partial(_explain, settings), 1, baselines=baselines)


@dataclass(frozen=True)
class _Settings:
    n_samples: int
    grid: int
    feature_mask: Tensor | None
    score: str
    per_pass: int
    seed: int


def _explain(settings: _Settings, call: Call, baseline: Any) -> Tensor:
    """The map of one sample."""
    canvas = Canvas.of(call, baseline)
    regions = _regions(settings, canvas)
    players = int(regions.max()) + 1
    with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
        scorer = Scorer.of(canvas.call, settings.score)

        def scores(coalitions: Tensor) -> Tensor:
            # Region −1 is padding, which is no player and stays.
            seen = torch.nn.functional.pad(coalitions.to(canvas.values), (0, 1), value=1.0)
            return scorer(canvas.masked(seen[:, regions].unsqueeze(1)))[:, 0]

        values = _shapley(scores, players, settings).to(canvas.values.device)
    values = torch.nn.functional.pad(values, (0, 1))
    return as_map(call, values[regions][None])


def _regions(settings: _Settings, canvas: Canvas) -> Tensor:
    """The player at each position, ``(H, W)`` or ``(T,)``; −1: none."""
    device = canvas.values.device
    if canvas.values.ndim == 3:
        count = canvas.positions[0]
        valid = canvas.call.valid_tokens(count)
        kept = torch.ones(count, device=device) if valid is None else valid[0].to(device)
        kept = kept.bool()
        return (kept.cumsum(0) - 1).masked_fill(~kept, -1)
    height, width = canvas.positions
    if settings.feature_mask is None:
        rows, columns = (
            torch.arange(side, device=device) * settings.grid // side for side in (height, width)
        )
        cells = rows[:, None] * settings.grid + columns
    else:
        cells = settings.feature_mask.to(device)
        if tuple(cells.shape) != (height, width):
            raise ValueError(
                f"feature_mask of shape {tuple(cells.shape)} for images of {height} × {width} "
                "pixels; expected one region per pixel"
            )
    return torch.unique(cells, return_inverse=True)[1]


def _shapley(scores: Any, players: int, settings: _Settings) -> Tensor:
    """φ of every player, ``(M,)``, float32."""
    exact = 2**players <= settings.n_samples
    if not exact and settings.n_samples < players + 2:
        raise ValueError(
            f"n_samples must be at least {players + 2}, given {settings.n_samples}: the regression "
            f"has {players} regions or tokens and a constant to tell apart"
        )
    if players == 1:
        both = scores(torch.tensor([[0.0], [1.0]]))
        return (both[1] - both[0])[None].float()
    with torch.random.fork_rng(devices=[]):  # Captum's data loader draws from the global generator
        found = _Regression(scores, exact, settings.seed).attribute(
            torch.ones(1, players),
            baselines=0,
            n_samples=2**players if exact else settings.n_samples,
            perturbations_per_eval=settings.per_pass,
        )
    return found[0].float()


class _Regression(captum.attr.KernelShap):
    """Captum's regression on coalitions of ours: all of them, or drawn by a seed of their own."""

    def __init__(self, forward_func: Any, exact: bool, seed: int) -> None:
        super().__init__(forward_func)
        self.exact, self.seed = exact, seed

    def kernel_shap_perturb_generator(
        self, original_inp: Any, **kwargs: Any
    ) -> Generator[Tensor, None, None]:
        """The coalitions, ``(1, M)`` each."""
        players = kwargs["num_interp_features"]
        if self.exact:
            for bits in itertools.product([0, 1], repeat=players):
                yield torch.tensor([bits])
            return
        yield torch.ones(1, players, dtype=torch.long)
        yield torch.zeros(1, players, dtype=torch.long)
        generator = torch.Generator().manual_seed(self.seed)
        sizes = torch.arange(1, players, dtype=torch.float64)
        share = 1 / (sizes * (players - sizes))  # the kernel's mass on each size
        while True:
            size = 1 + int(torch.multinomial(share, 1, generator=generator))
            chosen = torch.randperm(players, generator=generator)[:size]
            yield torch.zeros(1, players, dtype=torch.long).index_fill_(1, chosen, 1)

    def kernel_shap_similarity_kernel(
        self, _: Any, __: Any, interpretable_sample: Tensor, **kwargs: Any
    ) -> Tensor:
        """The weight of a coalition: the Shapley kernel (Theorem 2), or 1 if drawn by it."""
        size, players = int(interpretable_sample.sum()), kwargs["num_interp_features"]
        if size in (0, players):
            return torch.tensor([self.inf_weight])
        if not self.exact:
            return torch.ones(1)
        kernel = (players - 1) / (math.comb(players, size) * size * (players - size))
        return torch.tensor([kernel])
