"""Of a model that answers: the question as tensors, and maps of picture, question and answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from captum_ib.explaining.subject import Answering, Subject, Words
from captum_ib.hooks import borrowed
from captum_ib.layout import TokenLayout
from captum_ib.loading.from_generator import asking_of
from captum_ib.loading.load import LoadedModel
from captum_ib.models.answer import AnswerLogProbability
from captum_ib.models.picture_tokens import WHOLE, over_picture

_GREY = 1e-4  # of normalised pixels; some models leave out what is exactly 0
LONGEST = 20
"""Tokens of an answer that the model gives itself, at most."""


def asked_of(
    loaded: LoadedModel,
    picture: Image,
    question: str,
    answer: str | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Subject:
    """A picture, a question and an answer: log p(answer | picture, question) is explained.

    Args:
        loaded: a model that answers, already on ``device`` and in ``dtype``.
        picture: of any size.
        question: as a person puts it; the model's template is put around it.
        answer: what the model might say; ``None``: what it says, the likeliest token each time, up
            to :data:`LONGEST` tokens.
        device: where to compute.
        dtype: of the pixel values.

    Raises:
        ValueError: an answer without a token, or in words that the model does not know.
    """
    asked = asking_of(loaded)(picture, question)
    if answer is None:
        with borrowed([loaded.model]), torch.no_grad():
            ids = asking_of(loaded).generate(asked, LONGEST)
    else:
        ids = _answer_ids(loaded, answer)
    extra = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in asked.extra.items()}
    model = AnswerLogProbability(loaded.model, asked.prompt_ids.to(device), ids.to(device), extra)
    pixels = asked.pixel_values.to(device, dtype)
    score, alone = _shares(model, pixels)
    words = asking_of(loaded).processor.tokenizer
    said = words.decode(ids, skip_special_tokens=True).strip() or words.decode(ids)
    places = model.parts(torch.zeros(1, model.length), pixels)
    texts = (_words(loaded, question, places.prompt_ids), _words(loaded, said, ids[None]))
    return Subject(
        model,
        (pixels,),
        f"{question} → {said} ({100 * score:.1f} %)",
        score,
        asked.picture,
        words=texts,
        answering=Answering(answer is None, alone, asked.tiles),
    )


def by_token(subject: Subject) -> list[Subject]:
    """The same question for each token of the answer: log p(a_t | picture, question, a_<t).

    Raises:
        TypeError: the model gives no answer.
    """
    model, answering = subject.model, subject.answering
    if not isinstance(model, AnswerLogProbability) or answering is None:
        raise TypeError("only what a model answers has a map for each token of the answer")
    (pixels,), (question, answer) = subject.inputs, subject.words
    found: list[Subject] = []
    for place, one in enumerate(model.each()):
        marked = [f"[{word}]" if i == place else word for i, word in enumerate(answer.tokens)]
        said, (score, alone) = " ".join(marked), _shares(one, pixels)
        found.append(
            replace(
                subject,
                model=one,
                title=f"{question.text} → {said} ({100 * score:.1f} %)",
                score=score,
                words=(question, replace(answer, text=said)),
                answering=replace(answering, alone=alone),
            )
        )
    return found


def _shares(model: AnswerLogProbability, pixels: Tensor) -> tuple[float, float]:
    """The answer's probability, and that with a grey picture."""
    with borrowed([model]), torch.no_grad():
        grey = model(torch.full_like(pixels, _GREY))
        return float(model(pixels).exp()), float(grey.exp())


def _answer_ids(loaded: LoadedModel, answer: str) -> Tensor:
    """The answer's tokens ``(A,)``, without those that begin or end a text."""
    assert loaded.tokenizer is not None
    loaded.tokenizer([answer])  # says what is wrong with it
    words = asking_of(loaded).processor.tokenizer
    return torch.tensor(words(answer, add_special_tokens=False)["input_ids"])


def _words(loaded: LoadedModel, text: str, ids: Tensor) -> Words:
    assert loaded.tokens is not None
    return Words(text, ids, None, tuple(loaded.tokens(ids[0])), loaded.special_tokens)


def answer_maps(
    method: Any, subject: Subject, keywords: Mapping[str, Any]
) -> tuple[tuple[Tensor, ...], Any, Tensor]:
    """Maps of the picture ``(1, 1, h, w)``, the question ``(P,)`` and the answer ``(A,)``.

    Of a picture that is read in several pieces (small as a whole, and its tiles) they are added
    up: a coarse cell's value is spread over the fine cells below it, so that sums are kept.

    Returns:
        The maps; the trace of the fit where ``keywords`` ask for one, else ``None``; and the map
        over all tokens, ``(1, T)``.

    Raises:
        ValueError: where the picture's tokens lie can't be told.
    """
    model, pixels = subject.model, subject.pixel_values
    assert isinstance(model, AnswerLogProbability) and subject.answering is not None
    found = method.attribute(pixels, layout=TokenLayout("sequence"), **keywords)
    found, trace = found if keywords.get("return_trace") else (found, None)
    found = found.detach().float().cpu()
    parts = model.parts(found, pixels)
    tiles = subject.answering.tiles
    told = tiles is not None or len(parts.images) == 1 or model.family in WHOLE
    picture = over_picture(parts.images, tiles) if told else None
    if picture is None:
        raise ValueError(
            f"{model.family}: where the picture's tokens lie in the picture can't be told; call "
            "the method's attribute() on an AnswerLogProbability, which gives a map over tokens"
        )
    return (picture, parts.prompt[0], parts.answer[0]), trace, found
