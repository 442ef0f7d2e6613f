"""What is to be explained, as tensors: inputs, the question, and what the model says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Words:
    """A text as the model reads it.

    Attributes:
        text: as it was given.
        ids: ``(1, T)``.
        mask: ``(1, T)``, 1 at the tokens that count; ``None`` for models that take none.
        tokens: T words.
        special: words that stand for no text (begin, end, padding).
    """

    text: str
    ids: Tensor
    mask: Tensor | None
    tokens: tuple[str, ...]
    special: frozenset[str]

    @property
    def shown(self) -> list[int]:
        """Places of the words that stand for text."""
        return [i for i, word in enumerate(self.tokens) if word not in self.special]


@dataclass(frozen=True)
class Answering:
    """What there is to know of an answer.

    Attributes:
        generated: whether the model gave it; else a person did.
        alone: its probability with a grey picture: what the language alone would say.
        tiles: rows and columns that the picture was cut into, see
            :func:`captum_ib.models.picture_tokens.over_picture`.
    """

    generated: bool
    alone: float
    tiles: tuple[int, int] | None = None


@dataclass(frozen=True)
class Subject:
    """What is to be explained: a picture and a caption or a class, a text and a class, two texts,
    or a picture, a question and an answer.

    Attributes:
        model: a classifier, a ``DualEncoder``, or an ``AnswerLogProbability``.
        inputs: the model's inputs, one sample each: ``(1, 3, H, W)``, and ids ``(1, T)``.
        title: the question in words.
        score: cosine similarity, or the probability of the class (of a single logit: its sigmoid)
            or of the answer.
        picture: ``(3, H, W)`` in [0, 1], what the model sees; ``None`` of texts alone. Of a sound
            its spectrogram, low tones at the bottom.
        target: index of the class.
        label: the class's name, when it has one.
        words: the texts, in the order of the inputs; none for a classifier of pictures.
        sound: whether the first input is a sound; its map is (time, frequency).
        answering: of a model that answers; its ``words`` are question and answer.
    """

    model: nn.Module
    inputs: tuple[Tensor, ...]
    title: str
    score: float
    picture: Tensor | None = None
    target: int | None = None
    label: str | None = None
    words: tuple[Words, ...] = ()
    sound: bool = False
    answering: Answering | None = None

    @property
    def pair(self) -> bool:
        """Whether two things are compared; else a class is explained."""
        return len(self.inputs) == 2

    @property
    def pixel_values(self) -> Tensor:
        """The picture as the model takes it, ``(1, 3, H, W)``."""
        return self.inputs[0]

    @property
    def beside(self) -> int:
        """Which text a figure shows beside the picture: the question, the caption, the second."""
        return 0 if self.answering is not None else len(self.words) - 1

    @property
    def text(self) -> str | None:
        """The caption, the question, the only text, or the second of two."""
        return self.words[self.beside].text if self.words else None

    @property
    def masks(self) -> tuple[Tensor, ...] | None:
        """The texts' masks, as ``additional_forward_args``; ``None`` where there are none."""
        given = tuple(words.mask for words in self.words if words.mask is not None)
        return given or None

    def record(self) -> dict[str, Any]:
        """What a reader of the result has to know of the question."""
        if self.answering is not None:
            question, answer = (words.text for words in self.words)
            return {
                "question": question,
                "answer": answer,
                "generated": self.answering.generated,
                "probability": self.score,
                "probability_with_grey_picture": self.answering.alone,
            }
        said: dict[str, Any] = {"text": self.text} if self.words else {}
        if len(self.words) == 2:
            said = {"texts": [words.text for words in self.words]}
        if self.pair:
            return {**said, "cosine": self.score}
        return {**said, "target": self.target, "label": self.label, "probability": self.score}
