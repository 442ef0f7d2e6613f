"""One number per sample from any model: a classifier's target output, or a pair's cosine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Protocol, cast

import numpy as np
import torch
from quantus.helpers.model.model_interface import ModelInterface
from torch import Tensor, nn

from captum_ib.checks import require_choice
from captum_ib.forward import output_tensor, probabilities
from captum_ib.forward.mistakes import warn
from captum_ib.forward.output import head_of, states_multi_label

Activation = Literal["softmax", "sigmoid", "none"]


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

    A classifier's score is its output at the target, turned into a probability as ``activation``
    says. Unless that is given: where Quantus' wrapper was built with ``softmax=True`` the softmax
    probability, of a single logit the sigmoid, and of every logit where the model's configuration
    says ``problem_type="multi_label_classification"``; of a model that ends in ``nn.Softmax`` or
    ``nn.Sigmoid`` its output; else the output as it is. A single logit z is the head (z, 0), so
    its target is 0. A dual encoder's score is the cosine of the pair, and the other side's
    embedding is computed once, here.

    Args:
        model: Quantus' wrapper of the model.
        targets: ``(N,)`` class indices; for a dual encoder the other modality's inputs, ``(N, …)``.
        modality: which modality of a dual encoder the inputs are; its first unless given.
        inputs: the unchanged inputs, from which a dual encoder's valid tokens are read where the
            inputs are the text.
        pad_token: id of padding, for dual encoders that can't tell it from the ids themselves.
        activation: how a classifier's outputs become probabilities: ``"softmax"``, ``"sigmoid"``
            (heads with several labels), or ``"none"`` (they are, or the score is the output).

    Attributes:
        text_mask: ``(N, T)`` of bool, the tokens that are not padding, on the side that is text;
            None where the dual encoder needs none.

    Raises:
        TypeError: targets of a classifier that are no integers.
        ValueError: a target that is no class; an unknown modality or activation; more outputs
            than the targets can choose from.
    """

    def __init__(
        self,
        model: ModelInterface,
        targets: np.ndarray,
        modality: str | None = None,
        inputs: np.ndarray | None = None,
        pad_token: int | None = None,
        activation: Activation | None = None,
    ) -> None:
        self.activation: Activation | None = require_activation(activation)
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
            self._warned = False
            self._squashed: bool | None = None
            self._probability = bool(model.softmax) if activation is None else True
            self._call = _outputs_of(model, raw=self._probability)

    def input(self, array: np.ndarray | Tensor) -> Tensor:
        """``array`` on the model's device, in its precision."""
        return model_input(array, self.module, self.device)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Scores of ``inputs`` (N, …), as ``(N,)`` float32."""
        if self.dual:
            embedding = cast(Pair, self.module).encode(self.modality, inputs, self._mask)
            return (embedding * self._embedding).sum(-1).float()
        outputs = output_tensor(self._call(inputs, **self._kwargs), len(inputs))
        outputs = outputs[:, None] if outputs.ndim == 1 else outputs
        if outputs.ndim != 2:
            raise ValueError(
                f"a classifier returns (N, classes), given {tuple(outputs.shape)}; wrap the model"
            )
        self._check_targets(outputs.shape[1])
        if self._squashed is None and self._probability and self.activation is None:
            run = partial(self._call, **self._kwargs)
            self._squashed = _squashes(run, self.module, outputs, inputs[:1])
        return self._activated(outputs).gather(1, self.targets[:, None]).squeeze(1).float()

    def _check_targets(self, classes: int) -> None:
        if not bool(((self.targets >= 0) & (self.targets < classes)).all()):
            single = (
                "; a single logit z counts as the head (z, 0), and its target is 0: for the other "
                "class wrap the model so that it returns (N, 2)"
            )
            raise ValueError(
                f"y_batch has targets from {int(self.targets.min())} to {int(self.targets.max())}, "
                f"but the model has classes 0 to {classes - 1}{single if classes == 1 else ''}"
            )

    def _activated(self, outputs: Tensor) -> Tensor:
        if not self._probability or self.activation == "none":
            return outputs
        if self.activation is None and self._squashed:
            return outputs
        if not self._warned and _sum_to_one(outputs):
            self._warned = True
            warn(
                "the model's outputs lie between 0 and 1 and sum to 1, as probabilities do, and "
                f"{self.activation or 'softmax'} is applied to them once more; build the metric "
                'with activation="none"'
            )
        several = self.activation is None and states_multi_label(self.module)
        if self.activation == "sigmoid" or several:
            return outputs.float().sigmoid()
        if self.activation == "softmax" and outputs.shape[1] == 1:
            raise ValueError(
                'activation="softmax" of a single output is 1 whatever the input; use "sigmoid"'
            )
        return probabilities(outputs)


def require_activation(activation: Activation | None) -> Activation | None:
    """A checked ``activation``.

    Raises:
        ValueError: another one.
    """
    require_choice("activation", activation, (None, "softmax", "sigmoid", "none"))
    return activation


def _outputs_of(model: ModelInterface, raw: bool) -> Callable[..., Any]:
    """The model itself, or (not ``raw``) without the last softmax, as Quantus takes it off.

    For transformers' models Quantus asks for a tokenizer's output; image classifiers have none.
    """
    module = model.get_model()
    transformers = any(base.__name__ == "PreTrainedModel" for base in type(module).__mro__)
    return module if raw or transformers else model.get_softmax_arg_model()


def _squashes(call: Callable[..., Any], module: nn.Module, outputs: Tensor, one: Tensor) -> bool:
    """Whether a model's last operation is a sigmoid or a softmax, as the graph of a pass shows.

    Of a model that makes no graph its last module says so, and the outputs.
    """
    try:
        head = head_of(call, one)
    except (RuntimeError, ValueError):  # it takes no single sample
        head = None
    if head is not None:
        return head != "other"
    last = list(module.modules())[-1]
    if isinstance(last, nn.Sigmoid):
        return bool(((outputs >= 0) & (outputs <= 1)).all())
    return isinstance(last, nn.Softmax) and _sum_to_one(outputs)


def _sum_to_one(outputs: Tensor) -> bool:
    """Whether several outputs per row are probabilities of classes."""
    sums = outputs.float().sum(1)
    inside = bool(((outputs >= 0) & (outputs <= 1)).all())
    return inside and outputs.shape[1] > 1 and bool(((sums - 1).abs() < 1e-3).all())


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
