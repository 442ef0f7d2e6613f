"""What a loaded model brings along: preprocessing, words, labels, and the way back to a picture."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor, nn

from captum_ib.lazy import at_front_door
from captum_ib.rgb import as_rgb

if TYPE_CHECKING:
    from captum_ib.loading.from_generator import Asking

Triple = tuple[float, float, float]

Modality = Literal["audio", "image", "text"]

MIN_STD = 1e-6
"""Smallest standard deviation of a channel of images in [0, 1]; 1/255 is one step of a picture."""


SHOWN = 12
"""Classes that are listed where a word names several."""


class ModelUnavailableError(RuntimeError):
    """The model is neither on disk nor can it be fetched (no network, no such id, no weights)."""


class FolderError(ValueError):
    """What a model's folder holds can't be taken; the message says which file, and why."""


@dataclass(frozen=True)
class Options:
    """What :func:`captum_ib.loading.load` was asked for besides the name."""

    pretrained: bool = True
    allow_pickle: bool = False
    revision: str | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None


@dataclass(frozen=True)
class LoadedModel:
    """A model together with everything that turns pictures and words into its inputs.

    Attributes:
        name: what it was asked for as, e.g. ``"zoo:clip-scenes"``.
        model: the module itself, in evaluation mode. For a dual encoder this is the model of the
            family (a ``CLIPModel``); ``captum_ib.DualEncoder.from_model`` wraps it.
        kind: ``"classifier"`` (pictures or texts to logits), ``"dual"`` (two towers, one joint
            space), or ``"generator"`` (a picture and a question to an answer).
        preprocess: picture to ``(3, H, W)``, normalised as the model wants it. A model of texts
            alone takes no pictures: it refuses them, and ``image_size`` is (0, 0).
        image_size: (H, W) of its input, pixels.
        mean: per channel, what ``preprocess`` subtracts from values in [0, 1].
        std: per channel, what ``preprocess`` divides by.
        labels: name of each class; ``None`` when unknown.
        tokenizer: texts to ``(input_ids, attention_mask)``, both ``(N, T)``; the mask is ``None``
            for models that take none. ``None`` without text.
        tokens: one row of ``input_ids`` to its words, for display; ``None`` without text.
        special_tokens: words that stand for no text (begin, end, padding).
        modalities: what its inputs are: ``("image",)`` or ``("text",)`` of a classifier,
            ``("image", "text")`` of an image-text model, ``("text", "text")`` of a sentence
            encoder, ``("audio", "text")`` of one of sounds.
        hear: of a model of sounds: a :class:`~captum_ib.loading.sounds.Sound` to the model's input
            ``(channels, time, mel bins)``.
        ask: of a model that answers: picture and question to its inputs, by its processor and
            template (``captum_ib.loading.from_generator.Asking``).
        multi_label: whether several of its classes may hold at once, as the configuration says: a
            probability is the sigmoid of one logit then.
        left_out: names of tensors of the weights file that this model computes itself or does not
            use, as tables of positions that older versions wrote. Any other difference between
            file and model is an error.
    """

    name: str
    model: nn.Module
    kind: Literal["classifier", "dual", "generator"]
    preprocess: Callable[[Image], Tensor]
    image_size: tuple[int, int]
    mean: Triple
    std: Triple
    labels: list[str] | None = None
    tokenizer: Callable[[list[str]], tuple[Tensor, Tensor | None]] | None = None
    tokens: Callable[[Tensor], list[str]] | None = None
    special_tokens: frozenset[str] = frozenset()
    modalities: tuple[Modality, ...] = ("image",)
    hear: Callable[[Any], Tensor] | None = None
    ask: Asking | None = None
    multi_label: bool = False
    left_out: tuple[str, ...] = ()

    @property
    def texts(self) -> bool:
        """Whether it takes texts alone: one of a classifier, two of a sentence encoder."""
        return set(self.modalities) == {"text"}

    def explain(self, what: object, **options: Any) -> Any:
        """What the model looked at: ``captum_ib.explain(self, what, **options)``.

        Args:
            what: a picture, or a text for a classifier of texts; for an image-text model
                (picture, text), for a sentence encoder (text, text).
            options: ``method``, ``target``, ``layer``, …, as :func:`captum_ib.explain` has them.

        Returns:
            A :class:`captum_ib.Explanation`.
        """
        return at_front_door("explain")(self, what, **options)

    def picture(self, pixel_values: Tensor) -> Tensor:
        """What the model sees, undoing the normalisation: ``(..., 3, H, W)`` in [0, 1]."""
        mean = torch.tensor(self.mean, device=pixel_values.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixel_values.device).view(3, 1, 1)
        return (pixel_values.float() * std + mean).clamp(0, 1)

    def class_index(self, target: str | int, *, loosely: bool = False) -> int:
        """The index of a class given by its label (in any case) or its index.

        Digits are an index, unless a label is exactly they. A label may be one of several names
        that a comma separates ("tabby" for "tabby, tabby cat").

        Args:
            target: label or index.
            loosely: take a part of a label too, where it is a part of one class's only: whole words
                first, then any letters.

        Raises:
            ValueError: no such label (the nearest are listed), several (they are listed), or an
                index out of range.
        """
        if isinstance(target, str) and (
            not target.lstrip("-").isdecimal() or target in (self.labels or ())
        ):
            return self._index_of_label(target, loosely)
        index, count = int(target), None if self.labels is None else len(self.labels)
        if index < 0 or (count is not None and index >= count):
            last = "" if count is None else f" and at most {count - 1}"
            raise ValueError(f"target {index} is out of range: it must be at least 0{last}")
        return index

    def _index_of_label(self, label: str, loosely: bool) -> int:
        if self.labels is None:
            raise ValueError(
                f"target {label!r} is a label, but {self.name} does not name its classes; pass the "
                "index of the class"
            )
        wanted = label.strip().casefold()
        names = [text.casefold() for text in self.labels]
        found = _matching(wanted, names, loosely)
        if len(found) == 1:
            return found[0]
        if found:
            shown = "; ".join(f"{self.labels[i]} ({i})" for i in found[:SHOWN])
            more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
            raise ValueError(
                f"target {label!r} names {len(found)} classes: {shown}{more}; pass the whole label "
                "or the index of the one you mean"
            )
        single = [part for name in names for part in name.split(", ")]
        near = difflib.get_close_matches(wanted, single, n=3, cutoff=0.5)
        hint = f"nearest: {', '.join(near)}" if near else f"they start with {', '.join(names[:5])}"
        raise ValueError(f"target {label!r} is none of the {len(names)} labels; {hint}")


def _matching(wanted: str, names: Sequence[str], loosely: bool) -> list[int]:
    """The classes that a word means: by the closest kind of match that there is."""
    whole = re.compile(rf"(?<!\w){re.escape(wanted)}(?!\w)")
    kinds: tuple[Callable[[str], bool], ...] = (
        lambda name: name == wanted,
        lambda name: wanted in name.split(", "),
        lambda name: whole.search(name) is not None,
        lambda name: wanted in name,
    )
    for fits in kinds[: 4 if loosely else 2] if wanted else ():
        found = [i for i, name in enumerate(names) if fits(name)]
        if found:
            return found
    return []


@dataclass(frozen=True)
class Resize:
    """Preprocessing that resizes (bilinear, antialiased, aspect ratio given up) and normalises.

    Args:
        size: (H, W), pixels.
        mean: per channel, subtracted from values in [0, 1].
        std: per channel, divided by.
    """

    size: tuple[int, int]
    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, image: Image) -> Tensor:
        """Picture to ``(3, H, W)``, normalised."""
        pixels = torch.from_numpy(np.asarray(as_rgb(image)).copy()).permute(2, 0, 1) / 255
        if tuple(pixels.shape[1:]) != self.size:
            pixels = torch.nn.functional.interpolate(
                pixels[None], size=list(self.size), mode="bilinear", antialias=True
            )[0]
        mean, std = torch.tensor(self.mean).view(3, 1, 1), torch.tensor(self.std).view(3, 1, 1)
        return (pixels - mean) / std


def no_pictures(image: Image) -> Tensor:
    """The preprocessing of a model that takes no pictures.

    Raises:
        ValueError: always.
    """
    raise ValueError("this model takes no pictures")


def triple(values: Sequence[float], name: str) -> Triple:
    """Three floats, one per channel, of ``values``.

    Raises:
        ValueError: there are not three of them, one is not finite, or a standard deviation (what
            ``name`` calls ``std``) is not positive.
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} must hold one number per colour channel, given {values!r}"
        ) from error
    if len(numbers) != 3:
        raise ValueError(f"{name} must hold one number per colour channel, given {numbers}")
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must hold finite numbers, given {numbers}")
    if name == "std" and min(numbers) < MIN_STD:
        raise ValueError(
            f"std must hold positive numbers: images are divided by it; given {numbers}"
        )
    return numbers[0], numbers[1], numbers[2]
