"""What a sample is, and what every kind of data offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image


@dataclass(frozen=True)
class Sample:
    """One picture with its question and, where it is known, the truth about it.

    Attributes:
        id: unique among the samples of a data set, and the same in every run.
        image: RGB, of its own size.
        label: index of the class, for a classifier; a name where only that is known; ``None`` for
            the likeliest class.
        caption: for a dual encoder.
        mask: ``(H, W)`` bool at the image's size, ``True`` where the evidence is, if that is known.
        words: the caption's words that carry content; ``None``: unknown.
    """

    id: str
    image: Image
    label: int | str | None = None
    caption: str | None = None
    mask: np.ndarray | None = None
    words: tuple[str, ...] | None = None


class UnreadableSampleError(ValueError):
    """A sample can't be read; a run records the reason and goes on with the next.

    Attributes:
        id: of the sample.
        reason: in words, without the id.
    """

    def __init__(self, id: str, reason: str) -> None:
        super().__init__(f"{id}: {reason}")
        self.id, self.reason = id, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.id, self.reason)  # crosses processes with both


class Dataset(Protocol):
    """Samples that are read when asked for."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def id(self, index: int) -> str:
        """The id of a sample, without reading its picture."""
        ...

    def read(self, index: int) -> Sample:
        """A sample.

        Raises:
            IndexError: there is no such sample.
            UnreadableSampleError: it can't be read.
        """
        ...
