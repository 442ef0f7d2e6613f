"""One picture with its question, as tensors, and what a method says about it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn

from captum_ib.forward import output_tensor, probabilities
from captum_ib.hooks import check_stop
from captum_ib.loading.load import LoadedModel
from captum_ib.methods import MethodSpec
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.models.layers import blocks, resolve_layer


@dataclass(frozen=True)
class Subject:
    """What is to be explained: a picture, and a caption or a class.

    Attributes:
        model: a classifier, or a ``DualEncoder``.
        pixel_values: ``(1, 3, H, W)``, the model's input.
        picture: ``(3, H, W)`` in [0, 1], what the model sees.
        title: the question in words.
        score: cosine similarity, or the class's probability (of a single logit: its sigmoid).
        target: index of the class.
        label: the class's name, when it has one.
        text: the caption.
        input_ids: ``(1, T)``.
        attention_mask: ``(1, T)``.
        tokens: T words.
        special_tokens: words that stand for no text.
    """

    model: nn.Module
    pixel_values: Tensor
    picture: Tensor
    title: str
    score: float
    target: int | None = None
    label: str | None = None
    text: str | None = None
    input_ids: Tensor | None = None
    attention_mask: Tensor | None = None
    tokens: tuple[str, ...] = ()
    special_tokens: frozenset[str] = frozenset()

    def record(self) -> dict[str, Any]:
        """What a reader of the result has to know of the question."""
        if self.text is not None:
            return {"text": self.text, "cosine": self.score}
        return {"target": self.target, "label": self.label, "probability": self.score}


@dataclass(frozen=True)
class Explanation:
    """What a method says about a subject.

    Attributes:
        row: the method.
        image: ``(1, 1, h, w)``, in the method's unit.
        text: ``(T,)``, in the method's unit; ``None`` for a classifier.
        layers: names of the layers it looked at.
        settings: all settings, given and default.
    """

    row: MethodSpec
    image: Tensor
    text: Tensor | None
    layers: tuple[str, ...]
    settings: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """Method, layers and settings."""
        return {
            "method": self.row.name,
            "class": self.row.cls_path,
            "paper": self.row.paper,
            "unit": self.row.unit,
            "signed": self.row.signed,
            "layers": list(self.layers),
            "settings": dict(self.settings),
        }


def make_subject(
    loaded: LoadedModel,
    picture: Image,
    question: str | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Subject:
    """The picture and its caption (dual encoder) or target (classifier) as tensors.

    Args:
        loaded: the model, already on ``device`` and in ``dtype``.
        picture: of any size.
        question: caption; or index or label of a class, ``None`` for the likeliest.
        device: where to compute.
        dtype: of the pixel values.

    Raises:
        ValueError: the caption has words, or the target a class, that the model does not know.
    """
    pixels = loaded.preprocess(picture)[None].to(device)
    seen = loaded.picture(pixels[0])
    pixels = pixels.to(dtype)
    if loaded.kind == "dual":
        return _pair(loaded, pixels, seen, question or "")
    with torch.no_grad():
        logits = output_tensor(loaded.model(pixels), 1).reshape(-1).float()
    target = int(logits.argmax()) if question is None else loaded.class_index(question)
    if target >= len(logits):
        raise ValueError(f"target {target} is out of range: the model has {len(logits)} classes")
    probability = float(probabilities(logits, 0)[target])
    label = loaded.labels[target] if loaded.labels else None
    title = f"{label or f'class {target}'} ({100 * probability:.1f} %)"
    return Subject(loaded.model, pixels, seen, title, probability, target, label)


def _pair(loaded: LoadedModel, pixels: Tensor, seen: Tensor, text: str) -> Subject:
    if loaded.tokenizer is None or loaded.tokens is None:
        raise ValueError(f"{loaded.name} has no tokenizer, so it can't read the caption")
    try:
        dual = DualEncoder.from_model(loaded.model)
    except TypeError as error:  # the user's mistake is the value of --model
        raise ValueError(str(error)) from error
    ids, mask = loaded.tokenizer([text])
    ids, mask = ids.to(pixels.device), None if mask is None else mask.to(pixels.device)
    with torch.no_grad():
        cosine = float(dual(pixels, ids, *(() if mask is None else (mask,))))
    return Subject(
        dual,
        pixels,
        seen,
        title=f"{text} ({cosine:.3f})",
        score=cosine,
        text=text,
        input_ids=ids,
        attention_mask=mask,
        tokens=tuple(loaded.tokens(ids[0])),
        special_tokens=loaded.special_tokens,
    )


def explain_subject(
    subject: Subject,
    row: MethodSpec,
    layers: Sequence[str],
    settings: Mapping[str, Any],
    *,
    show_progress: bool = True,
) -> Explanation:
    """Run a method.

    Args:
        subject: the picture and its question.
        row: the method.
        layers: names of layers; none for the method's default.
        settings: keywords of its ``attribute``.
        show_progress: show a progress bar, if stderr is a terminal.

    Raises:
        ValueError: a layer that is not there, does not fit the method, or gives no map.
    """
    method, names = build_method(subject.model, row, layers)
    keywords = dict(settings)
    parameters = inspect.signature(method.attribute).parameters
    if "show_progress" in parameters:
        keywords["show_progress"] = show_progress and sys.stderr.isatty()
    pixels = subject.pixel_values
    if subject.text is not None:
        inputs = (pixels, subject.input_ids)
        image, text = method.attribute(
            inputs, additional_forward_args=subject.attention_mask, **keywords
        )
        text = text[0].float().cpu()
    else:
        # Captum's input methods would set this themselves, with a warning.
        pixels = pixels.clone().requires_grad_(row.layers == "none")
        image, text = method.attribute(pixels, target=subject.target, **keywords), None
        if row.layers == "none":
            image = image.sum(dim=1, keepdim=True)
    if image.ndim != 4 or image.shape[1] != 1:
        raise ValueError(
            f"{row.name} gives no map over the image at {', '.join(names)} (shape "
            f"{tuple(image.shape)}); choose another layer"
        )
    shown = {key: _plain(value) for key, value in {**_defaults(parameters), **keywords}.items()}
    shown.pop("show_progress", None)
    return Explanation(row, image.detach().float().cpu(), text, tuple(names), shown)


def build_method(
    model: nn.Module, row: MethodSpec, layers: Sequence[str] = ()
) -> tuple[Any, list[str]]:
    """The method on a model, and the names of its layers.

    Args:
        model: a classifier, or a ``DualEncoder``.
        row: the method.
        layers: names of layers; none for the method's default.

    Raises:
        ValueError: a layer that is not there, or does not fit the method.
    """
    forward = _logits_of(model) if row.cls_path.startswith("captum.") else model
    if row.layers == "none":
        if layers:
            raise ValueError(f"{row.name} explains the input and takes no layer")
        return row.cls(forward), ["input"]
    if row.layers == "one":
        if len(layers) > 1:
            raise ValueError(f"{row.name} takes one layer, given {len(layers)}")
        name, module = resolve_layer(model, layers[0]) if layers else blocks(model)[-1]
        return row.cls(forward, module), [name]
    method = row.cls(model, list(layers) or None)
    return method, [name for name, _ in method.layers]


def _logits_of(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """A forward function that returns a tensor: Captum's own methods take no ``ModelOutput``."""

    def forward(pixels: Tensor) -> Tensor:
        check_stop()  # Captum's methods don't look between their steps
        return output_tensor(model(pixels), len(pixels))

    return forward


_INPUTS = ("self", "inputs", "baselines", "target", "additional_forward_args")


def _defaults(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    return {
        name: parameter.default
        for name, parameter in parameters.items()
        if name not in _INPUTS and parameter.default is not inspect.Parameter.empty
    }


def _plain(value: Any) -> Any:
    """A value that JSON can hold; functions and classes by their name."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return getattr(value, "__name__", str(value))
