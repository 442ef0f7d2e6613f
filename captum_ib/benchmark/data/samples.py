"""What a sample is, and what every kind of data offers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
        reason: in words, without the id; what is no Unicode in it is written out.
    """

    def __init__(self, id: str, reason: str) -> None:
        reason = reason.encode("utf-8", "backslashreplace").decode()
        super().__init__(f"{id}: {reason}")
        self.id, self.reason = id, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return type(self), (self.id, self.reason)  # crosses processes with both


class Dataset:
    """Samples that are read when asked for.

    Shuffled, they come in the order of a hash of seed and place: the first n are a fair draw, the
    same on every machine and with every version of everything, so that a run can go on years later.

    Args:
        length: how many there are.
        name: the id of the sample at a place, without reading its picture.
        read: the sample at a place, with its id; a ``ValueError`` says why it can't be read.
        seed: of the order (8 bytes are held for each sample); ``None``: as they are.

    Raises:
        ValueError: there are none.
    """

    def __init__(
        self,
        length: int,
        name: Callable[[int], str],
        read: Callable[[int, str], Sample],
        seed: int | None = None,
    ) -> None:
        if not length:
            raise ValueError("there are no samples")
        self._length, self._name, self._read, self._order = length, name, read, None
        if seed is not None:
            keys = (_key(seed, place) for place in range(length))
            self._order = np.argsort(np.fromiter(keys, np.uint64, length), kind="stable")

    def __len__(self) -> int:
        return self._length

    def id(self, index: int) -> str:
        """The id of a sample, without reading its picture.

        Raises:
            IndexError: there is no such sample.
        """
        return self._name(self._place(index))

    def read(self, index: int) -> Sample:
        """A sample.

        Raises:
            IndexError: there is no such sample.
            UnreadableSampleError: it can't be read.
        """
        place = self._place(index)
        name = self._name(place)
        try:
            return self._read(place, name)
        except ValueError as error:
            raise UnreadableSampleError(name, str(error)) from error

    def _place(self, index: int) -> int:
        if not 0 <= index < self._length:
            raise IndexError(f"sample {index} of {self._length}")
        return index if self._order is None else int(self._order[index])


def _key(seed: int, place: int) -> int:
    return int.from_bytes(blake2b(f"{seed}/{place}".encode(), digest_size=8).digest(), "big")
