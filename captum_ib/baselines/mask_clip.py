"""MaskCLIP: what each position says by its own value in the last block, in the joint space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import Attribution
from torch import Tensor

from captum_ib.baselines._blocks import blocks_in, project, require_one_each, tower_tokens
from captum_ib.baselines._recorder import AttentionLayer
from captum_ib.baselines._samples import explained
from captum_ib.baselines._tokens import token_layout, token_map
from captum_ib.checks import BatchSize
from captum_ib.facts import Facts
from captum_ib.forward import Call, Inputs, Named, calls_of, directions_of, log_usage, require_joint
from captum_ib.layout import TokenLayout


class MaskCLIP(Named, Attribution):
    """MaskCLIP (Zhou et al., ECCV 2022): the value path of the last block.

    The last attention is left out: every token goes on with its own value alone, y_j = x_j +
    W_o v_j + b_o and, as the block has it, y_j + MLP(LN y_j). The map is the cosine of its
    embedding with the other side's, cos(f(y_j), t). No query and no key of the last block counts,
    and nothing is differentiated.

    Signed, a cosine similarity per position. The paper has images only; on the text of a pair it is
    the same equation, each token by its own value, compared with the image.

    Args:
        forward_func: a :class:`~captum_ib.models.dual_encoder.DualEncoder` (the inputs are a pair),
            or a :class:`~captum_ib.models.dual_encoder.ZeroShotClassifier` (the target is a class).

    Raises:
        TypeError: another model, whose tokens have no place in a joint space.

    >>> from captum_ib import DualEncoder, zoo
    >>> dual = DualEncoder.from_model(zoo.load("clip-scenes").model)
    >>> pair = (torch.rand(1, 3, 56, 56), torch.tensor([[1, 2, 23, 38]]))
    >>> [tuple(map.shape) for map in MaskCLIP(dual).attribute(pair)]
    [(1, 1, 7, 7), (1, 4)]
    """

    facts = Facts(
        takes=frozenset({"dual"}),
        unit="cosine similarity",
        signed=True,
        paper="Zhou et al., ECCV 2022",
        description="similarity of each position's own value in the last block",
        passes="1 forward",
    )

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        require_joint(forward_func, "MaskCLIP")
        super().__init__(forward_func)

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        target: Any = None,
        additional_forward_args: Any = None,
        *,
        key_similarity: bool = False,
        layout: TokenLayout | None = None,
        internal_batch_size: BatchSize = None,
    ) -> Inputs:
        """Similarity per token. Common arguments: :mod:`captum_ib.baselines`.

        Args:
            inputs: a pair for a ``DualEncoder``, images for a ``ZeroShotClassifier``.
            target: the class for a ``ZeroShotClassifier``; none for a ``DualEncoder``.
            additional_forward_args: passed on to ``forward_func`` behind the inputs.
            key_similarity: multiply an image's map by the cosine of the class token's key and the
                patch's, both behind the projection of the heads, as the comparison in Grad-ECLIP's
                repository does; not part of the paper.

        Returns:
            ``(N, 1, h, w)``; for a pair also ``(N, T)``.

        Raises:
            ValueError: a tower without attention maps; no class token where ``key_similarity``
                needs it; NaN; a target out of range.
            TypeError: arguments of a wrong type.
        """

        calls = calls_of(self.forward_func, inputs, target, additional_forward_args)

        def relevance(call: Call, layout: TokenLayout | None) -> Tensor:
            texts, meant = directions_of(call)
            blocks = blocks_in(call, "MaskCLIP")

            def own_value(index: int, probabilities: Tensor) -> Tensor:
                if index != len(blocks) - 1:
                    return probabilities
                return torch.eye(
                    probabilities.shape[-1], dtype=probabilities.dtype, device=probabilities.device
                ).expand_as(probabilities)

            found = tower_tokens(call, blocks, own_value)
            require_one_each(found.layers, blocks)
            t = texts[torch.arange(call.n, device=texts.device), meant.to(texts.device)]
            values = torch.einsum("njd,nd->nj", found.values, t)
            known = token_layout(call, values.shape[1], layout)
            if key_similarity and known.spatial:
                values = values * _key_similarity(found.layers[-1], known)
            return token_map(call, values, known)

        return explained(calls, relevance, internal_batch_size, layout=layout)


def _key_similarity(layer: AttentionLayer, layout: TokenLayout) -> Tensor:
    """cos(W_o k_cls + b_o, W_o k_j + b_o), ``(N, T)``."""
    if layout.prefix == 0:
        raise ValueError(
            "key_similarity compares keys with the class token's, and this model has none; leave "
            "it out"
        )
    keys = project(layer, layer.joined(layer.keys, "keys"))
    return torch.cosine_similarity(keys[:, :1], keys, dim=-1)
