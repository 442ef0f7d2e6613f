"""Samples as the model takes them: pictures with a class, or pairs of a picture and a caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor

Some = TypeVar("Some", bound="_Subjects")


@dataclass(frozen=True)
class _Subjects:
    """What both types have: N samples of one shape, ready to be explained and judged.

    Attributes:
        indices: places in the data set.
        ids: names in the data set.
        pixels: ``(N, 3, H, W)``, the model's input.
        truth: ``(N, H, W)`` bool, the mask as the model sees the picture; all ``False``: unknown.
    """

    indices: tuple[int, ...]
    ids: tuple[str, ...]
    pixels: Tensor
    truth: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def part(self: Some, rows: Sequence[int]) -> Some:
        """Some of the samples."""
        return replace(self, **{name: _taken(value, rows) for name, value in vars(self).items()})

    def with_pixels(self: Some, pixels: Tensor) -> Some:
        """The same questions about other pictures."""
        return replace(self, pixels=pixels)


@dataclass(frozen=True)
class Pictures(_Subjects):
    """Pictures for a classifier.

    Attributes:
        targets: ``(N,)`` classes.
    """

    targets: Tensor
    tokens: ClassVar[None] = None

    @property
    def question(self) -> Tensor:
        """What is asked about the pictures: the classes."""
        return self.targets


@dataclass(frozen=True)
class Pairs(_Subjects):
    """Pictures with captions for two towers.

    Attributes:
        input_ids: ``(N, T)``.
        mask: ``(N, T)``, 1 for tokens; ``None`` where the model takes none.
        tokens: T words per sample.
        content: per sample ``(T,)`` bool, tokens of words that carry content; ``None``: unknown.
        valid: ``(N, T)`` bool, tokens that stand for text.
    """

    input_ids: Tensor
    mask: Tensor | None
    tokens: tuple[tuple[str, ...], ...]
    content: tuple[np.ndarray | None, ...]
    valid: np.ndarray

    @property
    def question(self) -> Tensor:
        """What is asked about the pictures: the captions."""
        return self.input_ids


Subjects = Pictures | Pairs


def join(parts: Sequence[Subjects]) -> Subjects:
    """Several samples of one type and shape as one."""
    return replace(parts[0], **{name: _joined(name, parts) for name in vars(parts[0])})


def plain(ids: Sequence[str], pixels: Tensor, targets: Tensor) -> Pictures:
    """Pictures and classes that are no samples of the data."""
    truth = np.zeros((len(ids), *pixels.shape[2:]), dtype=bool)
    return Pictures(tuple(range(len(ids))), tuple(ids), pixels, truth, targets)


def _taken(value: Any, rows: Sequence[int]) -> Any:
    if isinstance(value, tuple):
        return tuple(value[row] for row in rows)
    return None if value is None else value[list(rows)]


def _joined(name: str, parts: Sequence[Subjects]) -> Any:
    values = [getattr(part, name) for part in parts]
    if isinstance(values[0], Tensor):
        return torch.cat(values)
    if isinstance(values[0], np.ndarray):
        return np.concatenate(values)
    return None if values[0] is None else sum(values, ())
