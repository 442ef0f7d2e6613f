"""Tokens in the joint space of two modalities: whose they are, and what they are compared with."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from captum_ib.forward.call import Call
from captum_ib.forward.pair import TowerCall, require_dual
from captum_ib.forward.target import target_index
from captum_ib.hooks import borrowed
from captum_ib.models.dual_encoder import TowerEmbedding, ZeroShotClassifier


def require_joint(forward_func: object, name: str) -> None:
    """That tokens have a place in a joint space: a dual encoder, or a zero-shot classifier.

    Raises:
        TypeError: another object.
    """
    if not isinstance(forward_func, ZeroShotClassifier):
        require_dual(forward_func, name)


def embedding_of(call: Call) -> TowerEmbedding:
    """The tower behind a call of a forward function that passed :func:`require_joint`."""
    return cast(TowerEmbedding, call.forward_func)


def directions_of(call: Call) -> tuple[Tensor, Tensor]:
    """What tokens are compared with, unit embeddings ``(N, K, d)``, and which of them is meant.

    Of a pair the other side's embedding (K = 1); of a zero-shot classifier all classes, of which
    the target is meant, ``(N,)``.

    Raises:
        TypeError, ValueError: a target that names no class.
    """
    if isinstance(call, TowerCall):
        return call.other.float().unsqueeze(1), torch.zeros(
            call.n, dtype=torch.long, device=call.device
        )
    weights = cast(ZeroShotClassifier, call.forward_func).weights.float()
    index = target_index(call.target, weights.new_empty(call.n, len(weights)))
    if index is None:  # there is one class only
        index = torch.zeros(call.n, 1, dtype=torch.long)
    return weights.expand(call.n, -1, -1), index[:, 0].to(weights.device)


def second_embedding(forward_func: object, inputs: Tensor) -> tuple[str, Tensor]:
    """The name of a pair's first modality, and unit embeddings of the second's inputs, ``(N, d)``.

    Raises:
        TypeError: no dual encoder.
    """
    dual = require_dual(forward_func, "an embedding of the second modality")
    with borrowed([dual]), torch.no_grad():
        return dual.modalities[0], dual.encode(dual.modalities[1], inputs).float()
