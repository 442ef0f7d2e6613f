"""What a vision-language model of transformers is called with, family by family."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

TILED = ("idefics2", "idefics3", "llava_next", "llava_onevision", "smolvlm")
"""``model_type`` of models that take a sample's tiles on an axis of their own."""
PACKED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
"""``model_type`` of models that take the patches of all pictures on one axis."""


def family_of(model: Any) -> str:
    """A model's ``model_type``."""
    return getattr(getattr(model, "config", None), "model_type", "")


def image_token(model: Any) -> int:
    """The id of a picture's placeholder.

    Raises:
        TypeError: the configuration names none.
    """
    config = getattr(model, "config", None)
    token = getattr(config, "image_token_id", getattr(config, "image_token_index", None))
    if token is None:
        raise TypeError(f"the config of {type(model).__name__} has no image_token_id")
    return int(token)


def inputs_of(
    model: Any, pixel_values: Tensor, ids: Tensor, prompt: int, extra: Mapping[str, Any]
) -> dict[str, Any]:
    """The model's arguments, as its processor would give them for a prompt and what follows.

    Args:
        model: a ``…ForConditionalGeneration``.
        pixel_values: with an axis of samples, also of packed patches and of several pictures.
        ids: ``(N, T)``, placeholders included.
        prompt: how many of them are the prompt; the others are the answer so far.
        extra: further arguments, of one sample.

    Raises:
        ValueError: packed patches without an axis of samples.
    """
    found: dict[str, Any] = {
        "input_ids": ids,
        "pixel_values": _pictures(family_of(model), pixel_values),
        "attention_mask": torch.ones_like(ids),
        **{name: _for_rows(value, ids) for name, value in extra.items()},
    }
    taken = inspect.signature(model.forward).parameters
    if "mm_token_type_ids" in taken:  # Qwen: where the pictures' positions are
        found["mm_token_type_ids"] = (ids == image_token(model)).long()
    if family_of(model) == "gemma3":  # a picture's tokens see each other, in both directions
        found["token_type_ids"] = (ids == image_token(model)).long()
    if family_of(model) == "paligemma":
        # The prompt is read in both directions, the answer (type 1) from left to right only.
        answer = torch.arange(ids.shape[1], device=ids.device) >= prompt
        found["token_type_ids"] = answer.long().expand_as(ids)
    return found


def _pictures(family: str, pixel_values: Tensor) -> Tensor:
    """Pixels as the model takes them: packed and several pictures without an axis of samples."""
    if family in PACKED and pixel_values.ndim != 3:
        raise ValueError(
            f"{family} takes packed patches: pixel_values must be (N, patches, C), given "
            f"{tuple(pixel_values.shape)}; pass the processor's pixel_values[None]"
        )
    folded = family in PACKED or pixel_values.ndim == 5
    return pixel_values.flatten(0, 1) if folded and family not in TILED else pixel_values


def _for_rows(value: Any, ids: Tensor) -> Any:
    """An argument of one sample for as many rows as there are ids."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return value.to(ids.device).repeat(len(ids), *[1] * (value.ndim - 1))
