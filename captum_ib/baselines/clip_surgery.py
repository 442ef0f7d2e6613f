"""CLIP Surgery: a second path of value-value attention, and what all texts share removed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_ib.axis import Axis
from captum_ib.baselines._blocks import (
    States,
    blocks_in,
    project,
    require_one_each,
    second_norms,
    tower_tokens,
)
from captum_ib.baselines._recorder import AttentionLayer, AttentionRecorder
from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import (
    layer_start,
    positions_of,
    require_maps,
    token_layout,
    token_map,
)
from captum_ib.checks import BatchSize
from captum_ib.facts import Facts
from captum_ib.forward import (
    Call,
    Inputs,
    Named,
    TowerCall,
    calls_of,
    directions_of,
    embedding_of,
    log_usage,
    require_joint,
    second_embedding,
)
from captum_ib.hooks import AxisTracker, borrowed, roots
from captum_ib.layout import TokenLayout
from captum_ib.models.layers import NamedLayer


class CLIPSurgery(Named, Attribution):
    """CLIP Surgery (Li et al., Pattern Recognition 2025): architecture surgery, feature surgery.

    Beside the model's own path runs a second one over the last blocks, without MLPs: with v the
    values of the model's own path, n ← n + W_o softmax(v vᵀ / √d) v + b_o. It starts from what
    enters the first of these blocks. Its tokens, through the model's head, have length 1: f_j.

    - A caption (a ``DualEncoder``): ⟨f_j, t⟩, or with ``redundant`` ⟨f_j, t − e⟩, where e is what
      any text has, the embedding of an empty one.
    - A list of classes (a ``ZeroShotClassifier``, the target is the class): feature surgery,
      a_jn − mean_n a_jn with a_jn = w_n ⟨f_j, t_n⟩ and w = softmax_n(2⟨f_cls, t_n⟩) over its mean.

    Signed, a difference of cosine similarities. The paper has images only; on the text of a pair
    the same path runs under the model's own mask, and is compared with the image; a text tower
    that normalises last (BERT) has no such path, and a ``ZeroShotClassifier`` leaves it out.

    Args:
        forward_func: a :class:`~captum_ib.models.dual_encoder.DualEncoder` (the inputs are a pair),
            or a :class:`~captum_ib.models.dual_encoder.ZeroShotClassifier` (the target is a class).

    Raises:
        TypeError: another model, whose tokens have no place in a joint space.

    >>> from captum_ib import DualEncoder, zoo
    >>> dual = DualEncoder.from_model(zoo.load("clip-scenes").model)
    >>> pair = (torch.rand(1, 3, 56, 56), torch.tensor([[1, 2, 23, 38]]))
    >>> empty = torch.tensor([[1, 38, 0, 0]])
    >>> [tuple(map.shape) for map in CLIPSurgery(dual).attribute(pair, redundant=empty)]
    [(1, 1, 7, 7), (1, 4)]
    """

    facts = Facts(
        takes=frozenset({"dual"}),
        unit="cosine similarity",
        signed=True,
        paper="Li et al., Pattern Recognition 2025",
        description="similarity of positions after value-value attention, redundant features out",
        passes="2 forward",
    )

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        require_joint(forward_func, "CLIPSurgery")
        super().__init__(forward_func)

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        start_layer: int | None = None,
        redundant: Tensor | None = None,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Similarity per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            inputs: a pair for a ``DualEncoder``, images for a ``ZeroShotClassifier``.
            target: the class for a ``ZeroShotClassifier``; none for a ``DualEncoder``.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            start_layer: first block of the second path; negative counts from the end. Default: the
                last six blocks, as in the authors' code, or all where there are fewer.
            redundant: of a pair, an input of the second modality that says nothing (the ids of an
                empty text, ``(1, T)``), whose embedding is taken from the caption's. Default: none
                is. A list of classes has its redundant features removed without it.

        Returns:
            ``(N, 1, h, w)``; for a pair also ``(N, T)``.

        Raises:
            ValueError: a tower without attention maps, or whose blocks scale what attention adds;
                a ``redundant`` of a wrong shape, or without a pair; NaN; a target out of range.
            TypeError: arguments of a wrong type.
        """
        empty = None if redundant is None else _embedded(self.forward_func, redundant)

        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            texts, meant = directions_of(call)
            blocks = blocks_in(call, "CLIPSurgery")
            start = max(0, len(blocks) - 6)
            if start_layer is not None:
                start = layer_start(start_layer, len(blocks))
            path = _second_path(call, blocks, start)
            f = tower_tokens(call, blocks, last=path.tokens).values
            known = token_layout(call, f.shape[1], layout, path.positions)
            if not isinstance(call, TowerCall):
                return token_map(call, _feature_surgery(f, path.pooled, texts, meant), known)
            t = texts[:, 0]
            if empty is not None and call.modality == empty[0]:
                t = t - empty[1].to(t)
            return token_map(call, torch.einsum("njd,nd->nj", f, t), known)

        return explained(calls, relevance, internal_batch_size, layout=layout)


def _feature_surgery(f: Tensor, pooled: Tensor, texts: Tensor, meant: Tensor) -> Tensor:
    """a_jn − mean_n a_jn at the class that is meant, ``(N, T)``."""
    w = (2 * torch.einsum("nd,nkd->nk", pooled, texts)).softmax(dim=1)
    w = w / w.mean(dim=1, keepdim=True)
    a = torch.einsum("njd,nkd->njk", f, texts) * w.unsqueeze(1)
    surgery = a - a.mean(dim=2, keepdim=True)
    return surgery[torch.arange(len(f), device=f.device), :, meant.to(f.device)]


@dataclass(frozen=True)
class _Path:
    """Tokens behind the second path ``(N, T, C)``; the model's own embedding, of length 1."""

    tokens: Tensor
    pooled: Tensor
    positions: Axis | None


def _second_path(call: Call, blocks: Sequence[NamedLayer], start: int) -> _Path:
    entering, middle = States(), States()
    recorder, tracker = AttentionRecorder(rows=call.n), AxisTracker()
    inside = second_norms(blocks, "CLIPSurgery")
    tower = embedding_of(call).tower
    with (
        borrowed(roots(call.forward_func, call.run)),
        entering.hook(call, blocks, to_input=True),
        middle.hook(call, inside, to_input=True),
        tracker,
        recorder,
        torch.no_grad(),
    ):
        pooled = tower.pooled(*(value.clone() for value in call.arguments))
    require_one_each(require_maps(recorder.layers, call.n, 0), blocks)
    n = entering.seen[start].float()
    for index in range(start, len(blocks)):
        layer = recorder.layers[index]
        _require_plain_sum(layer, entering.seen[index], middle.seen[index], blocks[index][0])
        n = n + _value_attention(layer)
    maps = [layer.probabilities for layer in recorder.layers]
    pooled = nn.functional.normalize(pooled.float(), dim=-1)
    return _Path(n, pooled, positions_of(tracker, maps))


def _value_attention(layer: AttentionLayer) -> Tensor:
    """W_o softmax(v vᵀ / √d) v + b_o per head, under the layer's own mask."""
    layer.joined(layer.values, "values")  # says so when the pass did not show them
    v = torch.as_tensor(layer.values).float()
    scores = v @ v.transpose(-2, -1) / math.sqrt(v.shape[-1])
    masked = (layer.probabilities == 0).all(dim=1, keepdim=True)  # in one head it may be rounding
    attention = scores.masked_fill(masked, -math.inf).softmax(dim=-1)
    return project(layer, layer.joined(attention @ v, "values"))


def _require_plain_sum(layer: AttentionLayer, before: Tensor, after: Tensor, name: str) -> None:
    """That a block adds W_o A v + b_o to what enters it, and nothing else."""
    mixed = layer.probabilities.float() @ torch.as_tensor(layer.values).float()
    expected = before.float() + project(layer, layer.joined(mixed, "heads"))
    allowed = (1e-3 if after.dtype == torch.float32 else 5e-2) * after.abs().max()
    if not bool(((expected - after).abs() <= allowed).all()):
        raise ValueError(
            f"block {name} does not add its attention as it is (it scales or normalises it, or "
            "runs it beside its MLP), and CLIP Surgery's second path is defined for that only; "
            "choose MaskCLIP or LeGrad"
        )


def _embedded(forward_func: Callable[..., Any], redundant: Any) -> tuple[str, Tensor]:
    """The modality whose tokens are compared with it, and the embedding, ``(1, d)``."""
    if not isinstance(redundant, Tensor):
        raise TypeError(
            "redundant must be a tensor, the ids of an empty text for example, given "
            f"{type(redundant).__name__}"
        )
    if redundant.ndim < 2 or redundant.shape[0] != 1:
        raise ValueError(
            "redundant must be one input of the second modality, for example ids of shape (1, T), "
            f"given shape {tuple(redundant.shape)}"
        )
    return second_embedding(forward_func, redundant)
