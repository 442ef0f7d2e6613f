"""What a person hands over, told apart: a model, and a picture, a pair or two texts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from captum_ib.explaining.output import printable
from captum_ib.explaining.pictures import read_image
from captum_ib.loading.from_timm import wrap_timm
from captum_ib.loading.load import LoadedModel, load
from captum_ib.loading.sounds import Sound, read_sound, sound_of
from captum_ib.models.dual_encoder import DualEncoder
from captum_ib.rgb import as_rgb
from captum_ib.zoo.loading import ZooModel

PICTURE = (
    "a picture (a file's name, a PIL image, an array (H, W, 3), or the model's input as a tensor)"
)


@dataclass(frozen=True)
class Given:
    """What is to be explained, told apart.

    Attributes:
        first: a picture, the model's input ``(1, 3, H, W)``, a sound, or a text, the first of two.
        text: the caption, the second text, or the question; ``None`` for a classifier.
        name: of the picture's file, or a word for what was given.
        answer: of a model that answers; ``None``: its own.
    """

    first: Image.Image | Tensor | Sound | str
    text: str | None
    name: str
    answer: str | None = None


def as_model(model: object) -> LoadedModel:
    """The model with its preprocessing.

    Args:
        model: a name or folder as :func:`captum_ib.load` takes it, what that gives, a model of the
            zoo, or a classifier as a module: one of timm brings its preprocessing along, another
            takes tensors.

    Raises:
        TypeError: anything else; a dual encoder as a bare module, whose words are not known.
        ValueError, RuntimeError: as in :func:`captum_ib.load`.
    """
    if isinstance(model, (str, Path)):
        return load(str(model))
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, ZooModel):
        return replace(load(f"zoo:{model.name}"), model=model.model)
    if isinstance(model, DualEncoder) or getattr(model, "logit_scale", None) is not None:
        raise TypeError(
            f"given a {type(model).__name__} alone, without the tokenizer and preprocessing that "
            "belong to it; pass captum_ib.load(name or folder), or call a method's attribute()"
        )
    if not isinstance(model, nn.Module):
        raise TypeError(
            "model must be a name, a folder, what captum_ib.load gives, or a torch module; given "
            f"{type(model).__name__}"
        )
    return _of_module(model)


def _of_module(model: nn.Module) -> LoadedModel:
    flags = [(part, part.training) for part in model.modules()]
    try:
        if getattr(model, "pretrained_cfg", None):
            return wrap_timm(type(model).__name__, model)
    finally:
        for part, training in flags:
            part.training = training
    names: Any = getattr(getattr(model, "config", None), "id2label", None)
    labels = [str(names[i]) for i in sorted(names)] if names else None
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    name = type(model).__name__
    return LoadedModel(name, model, "classifier", _unknown, (0, 0), mean, std, labels)


def _unknown(image: Image.Image) -> Tensor:
    raise ValueError(
        "how this model wants its pictures is not known; pass its input, a tensor (3, H, W), or "
        "name the model as captum_ib.load takes it"
    )


def as_given(loaded: LoadedModel, what: object, target: object = None) -> Given:
    """The picture, pair or texts that a person gave.

    Args:
        loaded: the model.
        what: a picture for a classifier, or a text for one of texts; (picture, text) for an
            image-text model, (sound, text) for an audio-text model; (text, text) for a sentence
            encoder; (picture, question) or (picture, question, answer) for a model that answers.
        target: of a classifier; a pair has none.

    Raises:
        TypeError: another number or kind of things than the model takes.
        ValueError: a picture that can't be read, an empty text, a target for a pair.
    """
    if loaded.kind == "classifier" and loaded.texts:
        if not isinstance(what, str):
            raise TypeError(f"{loaded.name} classifies texts: pass a text, given {_kind(what)}")
        if not what.strip():
            raise ValueError("the text is empty; pass a sentence")
        return Given(what, None, "text")
    if loaded.kind == "classifier":
        if isinstance(what, (tuple, list)) and len(cast(Sequence[Any], what)) == 2:
            raise TypeError(
                f"{loaded.name} is a classifier and takes {PICTURE}, given a pair; the class goes "
                "to target="
            )
        picture, name = _picture(loaded, what)
        return Given(picture, None, name)
    if loaded.kind == "generator":
        return _asked(loaded, what, target)
    if target is not None:
        raise ValueError(
            f"{loaded.name} compares two things and has no classes: pass the text as "
            f"(picture, text) in the place of target={target!r}"
        )
    wanted = "(text, text)" if loaded.texts else "(picture, text)"
    wanted = wanted if loaded.hear is None else "(sound, text)"
    if not isinstance(what, (tuple, list)) or len(cast(Sequence[Any], what)) != 2:
        raise TypeError(f"{loaded.name} takes a pair {wanted}, given {_kind(what)}")
    first, text = cast("tuple[object, object]", tuple(cast(Sequence[Any], what)))
    if not isinstance(text, str) or (loaded.texts and not isinstance(first, str)):
        raise TypeError(
            f"{loaded.name} takes a pair {wanted}, given ({_kind(first)}, {_kind(text)})"
        )
    if not text.strip() or (loaded.texts and not str(first).strip()):
        raise ValueError("a text is empty; pass a caption or a sentence")
    if loaded.texts:
        return Given(str(first), text, "texts")
    if loaded.hear is not None:
        return Given(_sound(first), text, str(first) if isinstance(first, (str, Path)) else "sound")
    picture, name = _picture(loaded, first)
    return Given(picture, text, name)


def _asked(loaded: LoadedModel, what: object, target: object) -> Given:
    """A picture and a question, maybe with the answer."""
    wanted = "(picture, question) or (picture, question, answer)"
    if target is not None:
        raise ValueError(
            f"{loaded.name} answers and has no classes: pass {wanted} in the place of "
            f"target={target!r}"
        )
    if not isinstance(what, (tuple, list)) or len(cast(Sequence[Any], what)) not in (2, 3):
        raise TypeError(f"{loaded.name} takes {wanted}, given {_kind(what)}")
    first, *texts = cast("Sequence[object]", what)
    if isinstance(first, Tensor) and first.is_floating_point():
        raise TypeError(
            f"{loaded.name} cuts its pictures itself: pass the picture (a file's name, a PIL image "
            "or an array), not a tensor"
        )
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"{loaded.name} takes {wanted}, given {_kind(text)} as a text")
        if not text.strip():
            raise ValueError("a text is empty; pass a question, and an answer or none")
    question, answer = (*cast("list[str]", texts), None)[:2]
    picture, name = _picture(loaded, first)
    return Given(picture, question, name, answer)


def _sound(given: object) -> Sound:
    """A sound from a file, or from an array and its rate."""
    if isinstance(given, Sound):
        return given
    if isinstance(given, (str, Path)):
        return read_sound(Path(given))
    if isinstance(given, (tuple, list)) and len(cast(Sequence[Any], given)) == 2:
        wave, rate = cast("tuple[Any, Any]", tuple(cast(Sequence[Any], given)))
        if isinstance(rate, (int, np.integer)) and not isinstance(rate, bool):
            values = wave.detach().cpu().numpy() if isinstance(wave, Tensor) else np.asarray(wave)
            return sound_of(values, int(rate))
    raise TypeError(
        f"given {_kind(given)}, expected a sound: a WAV file's name, or (wave, sampling rate) with "
        "a wave (T,) or (channels, T)"
    )


def _picture(loaded: LoadedModel, given: object) -> tuple[Image.Image | Tensor, str]:
    """A picture, and the name of its file."""
    if isinstance(given, str) and not os.path.exists(given):  # a text may be no path at all
        raise FileNotFoundError(
            f"image {printable(Path(given))} does not exist or is not a file; {loaded.name} takes "
            f"{PICTURE}, and a text alone goes to a text classifier as captum_ib.load gives it"
        )
    if isinstance(given, (str, Path)):
        return read_image(Path(given)), str(given)
    if isinstance(given, Image.Image):
        return as_rgb(given), str(getattr(given, "filename", "")) or "picture"
    if isinstance(given, np.ndarray):
        return _of_array(given), "array"
    if isinstance(given, Tensor):
        if given.dtype == torch.uint8:
            one = given[0] if given.ndim == 4 and len(given) == 1 else given
            return _of_array(one.movedim(0, -1).cpu().numpy()), "tensor"
        return _input(loaded, given), "tensor"
    raise TypeError(f"given {_kind(given)}, expected {PICTURE}")


def _of_array(array: np.ndarray) -> Image.Image:
    """A picture from an array of bytes, or of numbers in [0, 1]."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (1, 3, 4)):
        raise ValueError(
            f"an array of shape {array.shape} is no picture: expected (H, W) or (H, W, 3), values "
            "0–255 as uint8 or 0–1 as floats; a model's input goes in as a tensor"
        )
    if array.dtype != np.uint8:
        low, high = float(np.min(array)), float(np.max(array))
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"an array of {array.dtype} with values from {low:.3g} to {high:.3g} is no "
                "picture: expected 0–1; bytes go in as uint8 (array.astype(numpy.uint8)), and a "
                "model's normalised input as a tensor"
            )
        array = np.rint(array * 255).astype(np.uint8)
    return as_rgb(Image.fromarray(array[..., 0] if array.shape[-1:] == (1,) else array))


def _input(loaded: LoadedModel, given: Tensor) -> Tensor:
    """The model's own input, one sample."""
    one = given[None] if given.ndim == 3 else given
    if one.ndim != 4 or len(one) != 1:
        raise ValueError(
            f"a tensor of shape {tuple(given.shape)} is not one input: expected (3, H, W) or "
            "(1, 3, H, W); explain several one by one, or with a method's attribute()"
        )
    size = loaded.image_size
    if size != (0, 0) and tuple(one.shape[1:]) != (3, *size):
        raise ValueError(
            f"a tensor of shape {tuple(given.shape)} does not fit {loaded.name}, which takes "
            f"{(3, *size)}; pass the picture itself, which is then resized and normalised"
        )
    return one


def spanning(loaded: LoadedModel, pixels: object) -> LoadedModel:
    """A model of unknown normalisation, with one that shows the whole range of this input."""
    if loaded.preprocess is not _unknown or not isinstance(pixels, Tensor):
        return loaded
    low, high = float(pixels.min()), float(pixels.max())
    scale = 1 / (high - low) if high > low else 1.0
    return replace(loaded, mean=(-low * scale,) * 3, std=(scale,) * 3)


def _kind(value: object) -> str:
    if isinstance(value, str):
        return f"the text {value!r}"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(cast(Sequence[Any], value))}"
    return f"a {type(value).__name__}"
