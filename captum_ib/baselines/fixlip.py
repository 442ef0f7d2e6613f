"""FIxLIP: weighted Banzhaf interactions between patches and words (Baniecki et al.)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import PerturbationAttribution
from torch import Tensor
from torch.nn import functional as F

from captum_ib.baselines._interactions import Interactions, shaped, word_maps
from captum_ib.baselines._perturb import Canvas, chunks, masks_per_pass
from captum_ib.baselines.one_layer import layer_state
from captum_ib.checks import require_count, require_finite
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import (
    Named,
    TowerCall,
    draw_seed,
    log_usage,
    pair_calls,
    per_call,
    require_dual,
    watched,
)
from captum_ib.hooks import borrowed, roots
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer


class FIxLIP(Named, PerturbationAttribution):
    """Faithful interaction explanations of language–image models (Baniecki et al., NeurIPS 2025).

    The game ν(S, U) is the similarity when only patches S and words U are seen. Its best
    approximation e_0 + Σ_i e_i z_i + Σ_k e_k z_k + Σ_ik e_ik z_i z_k, each player seen with
    probability p, gives the weighted Banzhaf interaction of patch i and word k:

        e_ik = E_{z ~ Bernoulli(p)}[ν(z ∪ ik) − ν(z ∪ i) − ν(z ∪ k) + ν(z)]

    The cross-modal trick: a image masks and b text masks are encoded apart, and every pair of them
    is a value of the game, a · b values for a + b passes. The least squares then come apart, too:
    with X = [1, S] and Y = [1, U], e = X⁺ ν (Y⁺)ᵀ. Where a side has few players all its masks are
    taken, and the result is exact. Pairs within a side are left out: for independent players they
    change no e_ik.

    A masked patch becomes ``baselines`` (0, the mean colour of a normalised image), a masked word
    the embedding 0, or that of an id. A text's first and last token (begin, end) and padding are no
    players: they are seen always. Signed, in units of the cosine.

    >>> from captum_ib import DualEncoder, zoo
    >>> dual = DualEncoder.from_model(zoo.load("clip-scenes").model)
    >>> pair = (torch.rand(1, 3, 56, 56), torch.tensor([[1, 2, 23, 38]]))
    >>> FIxLIP(dual).interactions(pair, n_masks=64, seed=0).shape
    torch.Size([1, 4, 7, 7])
    """

    facts = Facts(
        takes=frozenset({"dual"}),
        unit=OUTPUT,
        signed=True,
        paper="Baniecki et al., NeurIPS 2025",
        description="what seeing a word and a patch together adds to the similarity, on average",
        passes="1024 forward per tower",
        options={"seed": "seed"},
    )

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        self.dual = require_dual(forward_func, self.get_name())
        super().__init__(forward_func)

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        target: None = None,
        additional_forward_args: Any = None,
        *,
        n_masks: int = 1024,
        p: float = 0.5,
        layout: Sequence[TokenLayout | None] | None = None,
        perturbations_per_eval: int = 32,
        seed: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Weighted Banzhaf value per patch and word: e_i + p Σ_k e_ik = E[ν | z_i = 1] − E[ν | 0].

        Args:
            inputs, baselines, target, additional_forward_args: see :meth:`interactions`.
            n_masks, p, layout, perturbations_per_eval, seed: see :meth:`interactions`.

        Returns:
            The image's ``(N, 1, h, w)`` and the text's ``(N, T)``; 0 for what is no player.
        """
        settings = (n_masks, p, layout, perturbations_per_eval, seed)
        fits = self._fits(inputs, baselines, target, additional_forward_args, *settings)
        first, second = zip(*(fit.banzhaf() for fit in fits), strict=True)
        return torch.cat(first), torch.cat(second)

    @log_usage()
    def interactions(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        target: None = None,
        additional_forward_args: Any = None,
        *,
        n_masks: int = 1024,
        p: float = 0.5,
        layout: Sequence[TokenLayout | None] | None = None,
        perturbations_per_eval: int = 32,
        seed: int | None = None,
    ) -> Tensor:
        """A map e_ik for every word k. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            inputs: a pair.
            baselines: what masked patches and words become; one, or one per tower.
            target: none.
            additional_forward_args: the masks.
            n_masks: per side.
            p: the probability of a player to be seen.
            layout: one per tower, where it can't be inferred.

        Returns:
            ``(N, T, h, w)``; 0 for words that are no players.
        """
        settings = (n_masks, p, layout, perturbations_per_eval, seed)
        fits = self._fits(inputs, baselines, target, additional_forward_args, *settings)
        return word_maps(Interactions.joined([fit.pairs() for fit in fits]))

    def _fits(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any,
        target: None,
        additional_forward_args: Any,
        n_masks: int,
        p: float,
        layout: Sequence[TokenLayout | None] | None,
        perturbations_per_eval: int,
        seed: int | None,
    ) -> list[Fit]:
        require_count("n_masks", n_masks, 2)
        if not 0 < p < 1:
            raise ValueError(f"p must be in (0, 1), given {p}")
        per_pass = masks_per_pass(perturbations_per_eval, n_masks)
        calls = pair_calls(self.dual, inputs, additional_forward_args, target)
        bases = per_call(baselines, "baselines", calls)
        layouts = per_call(layout, "layout", calls)
        blocks = [self.dual.default_layer(name, 0.0) for name in self.dual.modalities[:2]]
        drawn = draw_seed(seed)
        fits: list[Fit] = []
        for i in watched(range(calls[0].n)):  # players differ between texts
            generator = torch.Generator().manual_seed(drawn)
            sides = [
                Players.of(call.part(i, i + 1), _row(base, call, i), block, one)
                for call, base, block, one in zip(calls, bases, blocks, layouts, strict=True)
            ]
            masks = [_masks(side.count, n_masks, p, generator) for side in sides]
            encoded = [
                side.embeddings(bits, per_pass)
                for side, (bits, _) in zip(sides, masks, strict=True)
            ]
            fits.append(Fit.of(sides, masks, encoded[0] @ encoded[1].T, p))
        return fits


@dataclass(frozen=True)
class Players:
    """One side of the game, of one sample.

    Attributes:
        canvas: what masks are laid on.
        layout: where the tower's tokens lie.
        places: indices of the players among the tower's tokens.
        tokens: of the tower, T.
    """

    canvas: Canvas
    layout: TokenLayout
    places: Tensor
    tokens: int

    @property
    def count(self) -> int:
        """Players."""
        return len(self.places)

    @staticmethod
    def of(
        call: TowerCall, baseline: Any, block: NamedLayer, layout: TokenLayout | None
    ) -> Players:
        """The patches of an image, or the words between the first and the last token of a text."""
        canvas = Canvas.of(call, baseline)
        state = layer_state(call, block, layout, to_input=True)
        known, tokens = state.layout, state.layout.tokens(state.activation).shape[1]
        places = torch.arange(tokens, device=call.device)
        if known.spatial:
            places = places[known.prefix : tokens - known.suffix]
        else:
            places = (places if state.valid is None else places[state.valid[0].bool()])[1:-1]
        return Players(canvas, known, places, tokens)

    def embeddings(self, bits: Tensor, per_pass: int) -> Tensor:
        """Unit embeddings ``(M, d)`` of the side under masks ``(M, players)``."""
        call = self.canvas.call
        found: list[Tensor] = []
        with borrowed(roots(call.forward_func, call.run)), torch.no_grad():
            for rows in chunks(len(bits), per_pass):
                seen = self._positions(bits[rows].to(call.device)).unsqueeze(1)
                variants = self.canvas.masked(seen).flatten(0, 1)
                rest = call.repeated(len(seen))[len(call.inputs) :]
                found.append(call.called_with([variants, *rest], len(seen)).float())
        require_finite(found[0], "an embedding")
        return torch.cat(found)

    def _positions(self, bits: Tensor) -> Tensor:
        """Masks over pixels or tokens."""
        if self.layout.spatial:
            grid = self.layout.grid
            if grid is None:
                raise ValueError("FIxLIP needs the grid of patches; pass layout= with a grid")
            patches = bits.float().reshape(-1, 1, *grid)
            return F.interpolate(patches, self.canvas.positions, mode="nearest")[:, 0]
        whole = torch.ones(len(bits), *self.canvas.positions, device=bits.device)
        whole[:, self.places] = bits.float()
        return whole


@dataclass(frozen=True)
class Fit:
    """The approximation of one sample's game.

    Attributes:
        e: ``(1 + players, 1 + players)`` of first and second side; row and column 0 are those of
            single players.
        sides: the players.
        p: the probability of being seen.
    """

    e: Tensor
    sides: Sequence[Players]
    p: float

    @staticmethod
    def of(
        sides: Sequence[Players], masks: Sequence[tuple[Tensor, Tensor]], values: Tensor, p: float
    ) -> Fit:
        """Least squares on all pairs of masks, ``values`` ``(a, b)``: e = X⁺ ν (Y⁺)ᵀ."""
        X, Y = (F.pad(bits.double().to(values.device), (1, 0), value=1.0) for bits, _ in masks)
        u, v = (weights.double().to(values.device).sqrt().unsqueeze(1) for _, weights in masks)
        nu = u * values.double() * v.T
        e = torch.linalg.pinv(u * X) @ nu @ torch.linalg.pinv(v * Y).T
        return Fit(e.float(), sides, p)

    def pairs(self) -> Interactions:
        """e_ik over the tokens of both sides."""
        one, other = self.sides
        swapped = one.layout.spatial or not other.layout.spatial
        words, image = (other, one) if swapped else (one, other)
        e = self.e[1:, 1:].T if swapped else self.e[1:, 1:]
        values = torch.zeros(1, words.tokens, image.tokens, device=e.device)
        values[0, words.places.unsqueeze(1), image.places] = e
        nothing = torch.zeros(1, device=e.device)
        return Interactions(values, words.layout, image.layout, not swapped, None, nothing)

    def banzhaf(self) -> list[Tensor]:
        """Per side e_i + p Σ_k e_ik, as a map of one sample."""
        maps: list[Tensor] = []
        for side, e in zip(self.sides, (self.e, self.e.T), strict=True):
            values = torch.zeros(1, side.tokens, device=e.device)
            values[0, side.places] = e[1:, 0] + self.p * e[1:, 1:].sum(dim=1)
            maps.append(shaped(values, side.layout))
        return maps


def _masks(players: int, most: int, p: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Masks ``(M, players)`` and their weights ``(M,)``: all of them where these are few."""
    if 2**players <= most:
        every = list(itertools.product([False, True], repeat=players))
        bits = torch.tensor(every, dtype=torch.bool).reshape(len(every), players)
        return bits, (p * bits + (1 - p) * ~bits).prod(dim=1)
    bits = torch.rand(most, players, generator=generator, dtype=torch.float32) < p
    return bits, torch.ones(most)


def _row(baseline: Any, call: TowerCall, index: int) -> Any:
    whole = isinstance(baseline, Tensor) and baseline.shape == call.inputs[0].shape
    return baseline[index : index + 1] if whole else baseline
