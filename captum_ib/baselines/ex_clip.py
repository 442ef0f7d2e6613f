"""ExCLIP: second-order attributions between the tokens of a pair (Möller et al.)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from captum.attr import LayerAttribution
from captum.attr._utils.approximation_methods import approximation_parameters
from torch import Tensor

from captum_ib.baselines._interactions import Interactions, marginals, word_maps
from captum_ib.baselines._recorder import AttentionRecorder
from captum_ib.baselines._tower import Pooled, opened, reference_inputs
from captum_ib.checks import BatchSize, require_choice, require_count, require_finite
from captum_ib.facts import OUTPUT, Facts
from captum_ib.forward import (
    Named,
    log_usage,
    pair_calls,
    per_call,
    require_dual,
    samples_at_once,
    tower_layers,
    watched,
)
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import LayerLike

METHODS = ("gausslegendre", "riemann_right", "riemann_middle")


class ExCLIP(Named, LayerAttribution):
    """Second-order attributions for dual encoders (Möller et al., TMLR 2025).

    How much do text token k and patch j add to the similarity together:

        I_kj = Σ_d a_dk b_dj / (‖g(x)‖ ‖f(y)‖),   a_dk = Σ_i (J_g)_dki (x − x')_ki,
        J_g = ∫₀¹ ∂g_d/∂h (x' + α(x − x')) dα,    b likewise for the image f, y, y'

    with g and f the embeddings before they are normalised, and h the hidden state that enters a
    block of each tower. Signed, in units of the cosine. Over all tokens of both sides it sums to
    ⟨g(x) − g(x'), f(y) − f(y')⟩ / (‖g(x)‖‖f(y)‖).

    Σ_d is never looped over: a_k is one product of a Jacobian with a vector, and I_k one product of
    a vector with the other Jacobian; both are batched. That takes 2T passes in place of 2d.

    Args:
        forward_func: a :class:`~captum_ib.models.dual_encoder.DualEncoder`.
        layer: per tower the block that the hidden state enters; default ⌊0.75 · depth⌋.

    >>> from captum_ib import DualEncoder, zoo
    >>> dual = DualEncoder.from_model(zoo.load("clip-scenes").model)
    >>> pair = (torch.rand(1, 3, 56, 56), torch.tensor([[1, 2, 23, 38]]))
    >>> ExCLIP(dual).interactions(pair, n_steps=2).shape
    torch.Size([1, 4, 7, 7])
    """

    facts = Facts(
        takes=frozenset({"dual"}),
        unit=OUTPUT,
        signed=True,
        paper="Möller et al., TMLR 2025",
        description="what a word and a patch add to the similarity together, along two paths",
        passes="10 steps per word, forward and backward, behind the layer",
        layers="many",
        options={"steps": "n_steps"},
    )

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: Sequence[LayerLike | None] | None = None,
    ) -> None:
        self.dual = require_dual(forward_func, self.get_name())
        self.layers = tower_layers(self.dual, layer, self.get_name())
        super().__init__(forward_func, self.layers[0][1])

    @log_usage()
    def attribute(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        target: None = None,
        additional_forward_args: Any = None,
        *,
        n_steps: int = 10,
        method: Literal["gausslegendre", "riemann_right", "riemann_middle"] = "gausslegendre",
        reference: Literal["aligned", "published"] = "aligned",
        layout: Sequence[TokenLayout | None] | None = None,
        internal_batch_size: BatchSize = None,
    ) -> tuple[Tensor, Tensor]:
        """Per token of each side, the sum of its interactions with all tokens of the other.

        Args:
            inputs, baselines, target, additional_forward_args: see :meth:`interactions`.
            n_steps, method, reference, layout, internal_batch_size: see :meth:`interactions`.

        Returns:
            The image's ``(N, 1, h, w)`` and the text's ``(N, T)``, padding 0.
        """
        settings = _Settings.of(n_steps, method, reference, layout, internal_batch_size)
        return marginals(
            self._interactions(inputs, baselines, target, additional_forward_args, settings)
        )

    @log_usage()
    def interactions(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any = None,
        target: None = None,
        additional_forward_args: Any = None,
        *,
        n_steps: int = 10,
        method: Literal["gausslegendre", "riemann_right", "riemann_middle"] = "gausslegendre",
        reference: Literal["aligned", "published"] = "aligned",
        layout: Sequence[TokenLayout | None] | None = None,
        internal_batch_size: BatchSize = None,
        return_convergence_delta: bool = False,
    ) -> Any:
        """A map for every word: ``(N, T, h, w)``. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            inputs: a pair.
            baselines: x' and y' as inputs, one per tower. Default: 0 for pixels; for token ids see
                ``reference``.
            target: none.
            additional_forward_args: the masks.
            n_steps: points of each path (paper: 10).
            method: their rule; the authors': ``"riemann_right"``.
            reference: of a text: ``"aligned"`` keeps its first and its last token where they are,
                with id 0 between; ``"published"`` is ``[first, 0, last, 0, …]``, whose embedding is
                read at the caption's last position, where the reference has an id 0, so that the
                sum is no difference of similarities.
            layout: one per tower, where it can't be inferred.
            internal_batch_size: most rows at once; at least one word's path.
            return_convergence_delta: also return Σ I over all tokens minus what it stands for,
                ``(N,)``.

        Returns:
            ``(N, T, h, w)``; rows of padding are 0. With ``return_convergence_delta`` also that.
        """
        settings = _Settings.of(n_steps, method, reference, layout, internal_batch_size)
        found = self._interactions(inputs, baselines, target, additional_forward_args, settings)
        maps = word_maps(found)
        return (maps, found.delta) if return_convergence_delta else maps

    def _interactions(
        self,
        inputs: tuple[Tensor, Tensor],
        baselines: Any,
        target: None,
        additional_forward_args: Any,
        settings: _Settings,
    ) -> Interactions:
        calls = pair_calls(self.dual, inputs, additional_forward_args, target)
        references = [
            reference_inputs(call, base, settings.aligned)
            for call, base in zip(calls, per_call(baselines, "baselines", calls), strict=True)
        ]
        layouts = per_call(settings.layout, "layout", calls)
        size = samples_at_once(calls[0].n, settings.rows)
        parts: list[Interactions] = []
        for start in watched(range(0, calls[0].n, size)):
            sides = [
                (call.part(start, start + size), layer, base[start : start + size], one)
                for call, layer, base, one in zip(
                    calls, self.layers, references, layouts, strict=True
                )
            ]
            with opened(*sides[0]) as first, opened(*sides[1]) as second:
                parts.append(_between(first, second, settings.path, settings.rows))
        return Interactions.joined(parts)


@dataclass(frozen=True)
class Path:
    """Points α of a path and their weights."""

    points: list[float]
    weights: list[float]

    def states(self, side: Pooled) -> Tensor:
        """x' + α(x − x'), ``(S, N, T, C)``."""
        alpha = torch.tensor(self.points, device=side.x.device, dtype=torch.float32)
        return side.r + alpha.reshape(-1, 1, 1, 1) * side.direction

    def weighted(self, values: Tensor) -> Tensor:
        """∫ dα of values ``(S, …)``."""
        weights = torch.tensor(self.weights, device=values.device, dtype=torch.float32)
        return torch.einsum("s,s...->...", weights, values.float())


@dataclass(frozen=True)
class _Settings:
    """Checked settings of a call."""

    path: Path
    aligned: bool
    layout: Sequence[TokenLayout | None] | None
    rows: BatchSize

    @staticmethod
    def of(
        n_steps: int,
        method: str,
        reference: str,
        layout: Sequence[TokenLayout | None] | None,
        rows: BatchSize,
    ) -> _Settings:
        require_choice("method", method, METHODS)
        require_choice("reference", reference, ("aligned", "published"))
        require_count("n_steps", n_steps, 1 if method == "gausslegendre" else 2)
        weights_of, points_of = approximation_parameters(method)
        path = Path([float(p) for p in points_of(n_steps)], [float(w) for w in weights_of(n_steps)])
        return _Settings(path, reference == "aligned", layout, rows)


def _between(first: Pooled, second: Pooled, path: Path, rows: BatchSize) -> Interactions:
    """The interactions of one part of the samples; words are those of the side without a grid."""
    words_first = not first.layout.spatial and second.layout.spatial
    words, image = (first, second) if words_first else (second, first)
    a = _push(words, path, rows)
    pulled = _pull(image, path, a, rows)
    norms = (words.embedding().norm(dim=-1) * image.embedding().norm(dim=-1)).reshape(-1, 1, 1)
    inner = torch.einsum("nd,nd->n", words.difference(), image.difference())
    values = torch.zeros(*words.x.shape[:2], image.x.shape[1], device=words.x.device)
    values[:, : pulled.shape[1]] = pulled / norms
    require_finite(values, "the interactions")
    delta = values.flatten(1).sum(dim=1) - inner / norms.flatten()
    return Interactions(values, words.layout, image.layout, words_first, words.valid, delta)


def _push(side: Pooled, path: Path, rows: BatchSize) -> Tensor:
    """a_k = ∫ J_g dα · (x − x')_k for all tokens k that count, ``(N, K, d)``.

    J v is the derivative of u ↦ Jᵀu, which is linear, in the direction of v: two backward passes
    in the place of one per dimension. (torch's forward mode has no rule for fused attention.)
    """
    states, tokens = path.states(side), side.x.shape[1]
    count = tokens if side.valid is None else int(side.valid.any(dim=0).nonzero().max()) + 1
    at_once = samples_at_once(count, rows, len(states) * len(side.x))
    h = states.flatten(0, 1).to(side.x.dtype).detach().requires_grad_()
    with AttentionRecorder():
        g = side.run(h)
        u = torch.zeros_like(g, requires_grad=True)
        (pulled,) = torch.autograd.grad(g, h, u, create_graph=True)
    found: list[Tensor] = []
    for start in watched(range(0, count, at_once)):
        some = torch.arange(start, min(start + at_once, count), device=side.x.device)
        only = torch.nn.functional.one_hot(some, tokens).reshape(-1, 1, tokens, 1)
        along = (only * side.direction).repeat(1, len(states), 1, 1).to(h.dtype)
        (moved,) = torch.autograd.grad(pulled, u, along, retain_graph=True, is_grads_batched=True)
        steps = moved.float().unflatten(1, (len(states), -1)).transpose(0, 1)
        found.append(path.weighted(steps))
    return torch.cat(found).transpose(0, 1)


def _pull(side: Pooled, path: Path, a: Tensor, rows: BatchSize) -> Tensor:
    """I_kj = Σ_i (∫ J_fᵀ dα a_k)_ji (y − y')_ji, ``(N, K, P)``."""
    states = path.states(side)
    at_once = samples_at_once(a.shape[1], rows, len(states) * len(side.x))
    h = states.flatten(0, 1).to(side.x.dtype).detach().requires_grad_()
    with AttentionRecorder():
        f = side.run(h)
    found: list[Tensor] = []
    for start in watched(range(0, a.shape[1], at_once)):
        some = a[:, start : start + at_once].transpose(0, 1)  # (k, N, d)
        along = some.unsqueeze(1).expand(-1, len(states), -1, -1).flatten(1, 2).to(f.dtype)
        (slopes,) = torch.autograd.grad(f, h, along, retain_graph=True, is_grads_batched=True)
        steps = slopes.float().unflatten(1, (len(states), -1)).transpose(0, 1)
        found.append((path.weighted(steps) * side.direction).sum(dim=-1))
    return torch.cat(found).transpose(0, 1)
