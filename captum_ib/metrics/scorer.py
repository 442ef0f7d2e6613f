"""One number per sample from any model: a classifier's target output, or a pair's cosine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import numpy as np
import torch
from quantus.helpers.model.model_interface import ModelInterface
from torch import Tensor, nn


class Pair(Protocol):
    """What compares two modalities, as ``captum_ib.DualEncoder`` does."""

    @property
    def modalities(self) -> Sequence[str]:
        """Their names."""
        ...

    def encode(self, modality: str, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Embeddings ``(N, d)``, of length 1."""
        ...

    def token_mask(
        self, modality: str, inputs: Tensor, mask: Tensor | None = None
    ) -> Tensor | None:
        """Valid tokens ``(N, T)``; None where the modality has no padding."""
        ...


def is_dual(model: object) -> bool:
    """Whether ``model`` is a :class:`Pair`."""
    return hasattr(model, "encode") and hasattr(model, "modalities")


def model_device(model: nn.Module, device: str | torch.device | None = None) -> torch.device:
    """``device`` if given, else where the model's parameters are."""
    if device is not None:
        return torch.device(device)
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def model_input(
    array: np.ndarray | Tensor, model: nn.Module, device: str | torch.device | None = None
) -> Tensor:
    """An array as the model takes it: on its device, floats in its precision, integers as they are.

    Perturbed inputs often come as float64; a model in float32 would refuse them.
    """
    tensor = torch.as_tensor(array).to(model_device(model, device))
    if tensor.is_floating_point():
        floats = (p.dtype for p in model.parameters() if p.is_floating_point())
        return tensor.to(next(floats, torch.float32))
    return tensor.long() if tensor.dtype != torch.bool else tensor


class Scorer:
    """Scores ``(N,)`` for inputs ``(N, …)`` against targets that were given once.

    A classifier's score is its output at the target: the softmax probability where Quantus' wrapper
    was built with ``softmax=True``, else the logit. A dual encoder's is the cosine of the pair, and
    the other side's embedding is computed once, here.

    Args:
        model: Quantus' wrapper of the model.
        targets: ``(N,)`` class indices; for a dual encoder the other modality's inputs, ``(N, …)``.
        modality: which modality of a dual encoder the inputs are; its first unless given.
        inputs: the unchanged inputs, from which a dual encoder's valid tokens are read where the
            inputs are the text.
        pad_token: id of padding, for dual encoders that can't tell it from the ids themselves.

    Attributes:
        text_mask: ``(N, T)`` of bool, the tokens that are not padding, on the side that is text;
            None where the dual encoder needs none.

    Raises:
        TypeError: targets of a classifier that are no integers.
        ValueError: a target that is no class; an unknown modality; more outputs than the targets
            can choose from.
    """

    def __init__(
        self,
        model: ModelInterface,
        targets: np.ndarray,
        modality: str | None = None,
        inputs: np.ndarray | None = None,
        pad_token: int | None = None,
    ) -> None:
        self.module: nn.Module = model.get_model()
        self.device = model_device(self.module, getattr(model, "device", None))
        self._kwargs: dict[str, Any] = dict(getattr(model, "model_predict_kwargs", None) or {})
        self.targets = model_input(targets, self.module, self.device)
        self.dual = is_dual(self.module)
        self.text_mask: Tensor | None = None
        if self.dual:
            self.modality, other = sides(self.module, modality)
            self._mask = None
            if inputs is not None:
                self._mask = token_mask(self.module, self.modality, self.input(inputs), pad_token)
            mask = token_mask(self.module, other, self.targets, pad_token)
            self.text_mask = self._mask if self.modality == "text" else mask
            with torch.no_grad():
                self._embedding = cast(Pair, self.module).encode(other, self.targets, mask)
        else:
            if self.targets.is_floating_point() or self.targets.ndim != 1:
                raise TypeError(
                    "y_batch must hold one class index per sample, given "
                    f"{self.targets.dtype} of shape {tuple(self.targets.shape)}"
                )
            self._call = _as_quantus_calls(model)

    def input(self, array: np.ndarray | Tensor) -> Tensor:
        """``array`` on the model's device, in its precision."""
        return model_input(array, self.module, self.device)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Scores of ``inputs`` (N, …), as ``(N,)`` float32."""
        if self.dual:
            embedding = cast(Pair, self.module).encode(self.modality, inputs, self._mask)
            return (embedding * self._embedding).sum(-1).float()
        outputs = self._call(inputs, **self._kwargs)
        if outputs.ndim != 2:
            raise ValueError(
                f"a classifier returns (N, classes), given {tuple(outputs.shape)}; wrap the model"
            )
        classes = outputs.shape[1]
        if not bool(((self.targets >= 0) & (self.targets < classes)).all()):
            raise ValueError(
                f"y_batch has targets from {int(self.targets.min())} to {int(self.targets.max())}, "
                f"but the model has classes 0 to {classes - 1}"
            )
        return outputs.gather(1, self.targets[:, None]).squeeze(1).float()


def _as_quantus_calls(model: ModelInterface) -> Callable[..., Tensor]:
    """The model's outputs with or without softmax, as Quantus decides it.

    For transformers' models Quantus asks for a tokenizer's output; image classifiers have none.
    """
    module = model.get_model()
    if not any(base.__name__ == "PreTrainedModel" for base in type(module).__mro__):
        return model.get_softmax_arg_model()

    def call(inputs: Tensor, **kwargs: Any) -> Tensor:
        logits = module(inputs, **kwargs).logits
        return logits.softmax(-1) if model.softmax else logits

    return call


def token_mask(
    dual: nn.Module, modality: str, values: Tensor, pad_token: int | None = None
) -> Tensor | None:
    """Valid tokens ``(N, T)`` of a dual encoder's modality, None where it has no padding.

    ``pad_token`` marks them in token ids; without it the dual encoder is asked.
    """
    ids = not values.is_floating_point()
    given = values != pad_token if ids and pad_token is not None else None
    return cast(Pair, dual).token_mask(modality, values, given)


def sides(dual: nn.Module, modality: str | None) -> tuple[str, str]:
    """The modality that the inputs are, and the other one.

    Raises:
        ValueError: ``dual`` has no such modality.
    """
    first, second = names = tuple(cast(Pair, dual).modalities)[:2]
    if modality is None or modality == first:
        return first, second
    if modality == second:
        return second, first
    raise ValueError(f"modality is one of {names}, given {modality!r}")
