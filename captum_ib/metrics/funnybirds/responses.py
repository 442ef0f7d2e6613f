"""What the model answers to a picture and to every intervention on it; asked in batches, kept."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from captum_ib.metrics.funnybirds.data import PARTS, Bird, FunnyBirds
from captum_ib.metrics.scorer import model_device

# None: the picture itself. A set: the parts that stay. A number: the object that goes.
Change = frozenset[str] | int | None


Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class Asked(ABC, Generic[Key, Answer]):
    """Answers about birds, asked for in batches and remembered.

    Args:
        batch_size: how many are asked for at once.
    """

    def __init__(self, batch_size: int) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, given {batch_size}")
        self.batch_size = batch_size
        self._known: dict[tuple[int, Key], Answer] = {}

    def fetch(self, wanted: Iterable[tuple[Bird, Key]]) -> None:
        """Ask for all of ``wanted`` that has not been asked for yet, in full batches."""
        missing = [
            pair for pair in dict.fromkeys(wanted) if (pair[0].index, pair[1]) not in self._known
        ]
        for start in range(0, len(missing), self.batch_size):
            chunk = missing[start : start + self.batch_size]
            for (bird, key), answer in zip(chunk, self._ask(chunk), strict=True):
                self._known[bird.index, key] = answer

    def answer(self, bird: Bird, key: Key) -> Answer:
        """One of the answers."""
        if (bird.index, key) not in self._known:
            self.fetch([(bird, key)])
        return self._known[bird.index, key]

    @abstractmethod
    def _ask(self, chunk: Sequence[tuple[Bird, Key]]) -> Iterable[Answer]:
        """The answers of a batch."""


class Responses(Asked[Change, Tensor]):
    """Logits of a model on FunnyBirds, computed when first asked for and remembered.

    Several explanations of one model share one ``Responses``, so that the interventions, which do
    not depend on the explanation, go through the model once.

    Args:
        data: the data set.
        model: ``(N, 3, H, W)`` pictures in [0, 1] → ``(N, classes)`` logits; resizing and
            normalising belong to it.
        batch_size: pictures per forward pass.
    """

    def __init__(self, data: FunnyBirds, model: nn.Module, batch_size: int = 64) -> None:
        super().__init__(batch_size)
        self.data, self.model = data, model

    def logits(self, bird: Bird, change: Change = None) -> Tensor:
        """``(classes,)`` logits of the picture, of kept parts (a set), or without an object."""
        return self.answer(bird, change)

    def predicted(self, bird: Bird, change: Change = None) -> int:
        """The class with the largest logit."""
        return int(self.logits(bird, change).argmax())

    def drop(self, bird: Bird, change: Change, target: int) -> float:
        """f_target(picture) − f_target(changed picture), in logits."""
        return float(self.logits(bird)[target] - self.logits(bird, change)[target])

    def _ask(self, chunk: Sequence[tuple[Bird, Change]]) -> Tensor:
        pictures = torch.stack([self._picture(bird, change) for bird, change in chunk])
        with torch.no_grad():
            output = self.model(pictures.to(model_device(self.model)))
        logits = getattr(output, "logits", output).detach().float().cpu()
        self._check(logits, len(chunk))
        return logits

    def _picture(self, bird: Bird, change: Change) -> Tensor:
        if change is None:
            return self.data.image(bird)
        if isinstance(change, int):
            return self.data.without_object(bird, change)
        return self.data.with_parts(bird, change)

    def _check(self, logits: Tensor, count: int) -> None:
        expected = (count, len(self.data.classes))
        if logits.shape != expected:
            raise ValueError(
                f"the model returned {tuple(logits.shape)} for {count} pictures; expected "
                f"{expected}, one logit per class of the data set"
            )
        if not torch.isfinite(logits).all():
            raise ValueError("the model returned NaN or infinity on FunnyBirds pictures")


def without(*parts: str) -> frozenset[str]:
    """The parts that stay when ``parts`` go."""
    return frozenset(PARTS) - frozenset(parts)
