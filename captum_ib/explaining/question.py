"""From what a person gave to tensors: a picture, a text, a pair or two texts, and the question."""

from __future__ import annotations

import torch
from PIL.Image import Image
from torch import Tensor

from captum_ib.explaining.answering import asked_of
from captum_ib.explaining.subject import Subject, Words
from captum_ib.forward import output_tensor, probabilities
from captum_ib.hooks import borrowed
from captum_ib.loading.load import LoadedModel
from captum_ib.loading.sounds import Sound, spectrogram
from captum_ib.models.dual_encoder import DualEncoder


def make_subject(
    loaded: LoadedModel,
    given: Image | Tensor | Sound | str,
    question: str | int | None,
    device: torch.device,
    dtype: torch.dtype,
    answer: str | None = None,
) -> Subject:
    """A picture and its caption (dual encoder) or a target (classifier), or texts, as tensors.

    Args:
        loaded: the model, already on ``device`` and in ``dtype``.
        given: a picture of any size, or the model's input ``(1, 3, H, W)``; a sound; a text, the
            first of two.
        question: caption or second text; of a model that answers the question; or index or label
            of a class, ``None`` for the likeliest.
        device: where to compute.
        dtype: of the pixel values.
        answer: of a model that answers; ``None`` for its own.

    Raises:
        ValueError: the caption has words, or the target a class, that the model does not know.
    """
    if loaded.kind == "generator":
        asked = "" if question is None else str(question)
        return asked_of(loaded, _picture(given), asked, answer, device, dtype)
    if loaded.texts:
        words = _words(loaded, str(given), device)
        if loaded.kind == "classifier":
            return _classified(loaded, (words.ids,), question, words=words)
        return _pair(loaded, (words, _asked(loaded, question, device)))
    if loaded.hear is not None:
        features = loaded.hear(given).to(device)
        sides = (features[None].to(dtype), _asked(loaded, question, device))
        return _pair(loaded, sides, spectrogram(features), sound=True)
    pixels = given if isinstance(given, Tensor) else loaded.preprocess(_picture(given))[None]
    pixels = pixels.to(device)
    seen = loaded.picture(pixels[0])
    pixels = pixels.to(dtype)
    if loaded.kind == "dual":
        return _pair(loaded, (pixels, _asked(loaded, question, device)), seen)
    return _classified(loaded, (pixels,), question, seen)


def _picture(given: Image | Tensor | Sound | str) -> Image:
    if isinstance(given, (Tensor, Sound, str)):
        what = "a tensor" if isinstance(given, Tensor) else "a sound"
        what = f"the text {given!r}" if isinstance(given, str) else what
        raise TypeError(f"given {what}, expected a picture")
    return given


def _classified(
    loaded: LoadedModel,
    inputs: tuple[Tensor, ...],
    question: str | int | None,
    seen: Tensor | None = None,
    words: Words | None = None,
) -> Subject:
    """A picture, or a text with its mask, and one of the classes."""
    masks = () if words is None or words.mask is None else (words.mask,)
    with borrowed([loaded.model]), torch.no_grad():
        logits = output_tensor(loaded.model(*inputs, *masks), 1).reshape(-1).float()
    target = (
        int(logits.argmax()) if question is None else loaded.class_index(question, loosely=True)
    )
    if target >= len(logits):
        raise ValueError(f"target {target} is out of range: the model has {len(logits)} classes")
    shares = logits.sigmoid() if loaded.multi_label else probabilities(logits, 0)
    label = loaded.labels[target] if loaded.labels else None
    title = f"{label or f'class {target}'} ({100 * float(shares[target]):.1f} %)"
    if words is not None:
        title = f"{words.text} → {title}"
    return Subject(
        loaded.model,
        inputs,
        title,
        float(shares[target]),
        seen,
        target,
        label,
        () if words is None else (words,),
    )


def _asked(loaded: LoadedModel, question: str | int | None, device: torch.device) -> Words:
    return _words(loaded, "" if question is None else str(question), device)


def _words(loaded: LoadedModel, text: str, device: torch.device) -> Words:
    if loaded.tokenizer is None or loaded.tokens is None:
        raise ValueError(f"{loaded.name} has no tokenizer, so it can't read the caption")
    ids, mask = loaded.tokenizer([text])
    return Words(
        text,
        ids.to(device),
        None if mask is None else mask.to(device),
        tuple(loaded.tokens(ids[0])),
        loaded.special_tokens,
    )


def _pair(
    loaded: LoadedModel,
    sides: tuple[Tensor | Words, Words],
    seen: Tensor | None = None,
    sound: bool = False,
) -> Subject:
    try:
        dual = DualEncoder.from_model(loaded.model)
    except TypeError as error:  # the user's mistake is the value of --model
        raise ValueError(str(error)) from error
    words = tuple(side for side in sides if isinstance(side, Words))
    inputs = tuple(side.ids if isinstance(side, Words) else side for side in sides)
    masks = [one.mask for one in words if one.mask is not None]
    with borrowed([dual]), torch.no_grad():
        cosine = float(dual(inputs[0], inputs[1], *masks))
    title = f"{' / '.join(one.text for one in words)} ({cosine:.3f})"
    return Subject(dual, inputs, title, cosine, seen, words=words, sound=sound)
