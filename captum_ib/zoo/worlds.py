"""Tell which generated scenes a classifier knows, by its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from captum_ib.zoo import relations, scenes


class Generator(Protocol):
    """What draws labelled scenes: :func:`.scenes.labelled`, :func:`.relations.labelled`."""

    def __call__(
        self,
        n: int,
        *,
        seed: int | torch.Generator = 0,
        start: int = 0,
        size: int | tuple[int, int] = 64,
        objects: tuple[int, int] = (1, 4),
    ) -> scenes.LabelledScenes:
        """Scenes ``start`` to ``start + n - 1`` of a seed."""
        ...


_GENERATORS: dict[tuple[str, ...], Generator] = {
    scenes.NAMED_SHAPES: scenes.labelled,
    relations.DIRECTIONS: relations.labelled,
}


def generator(labels: Sequence[str] | None) -> Generator | None:
    """What draws the scenes of a classifier with these classes; None for classes of another kind.

    A classifier that does not name its classes gets the scenes of one shape.

    Example:
        >>> generator(("right", "lower right")) is None
        True
        >>> generator(relations.DIRECTIONS)(1).images.shape
        torch.Size([1, 3, 96, 96])
    """
    return scenes.labelled if labels is None else _GENERATORS.get(tuple(labels))
