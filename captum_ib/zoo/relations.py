"""Generate scenes in which a relation between two objects is the class, with the truth about it.

A ring and a star lie somewhere among other shapes; the class is where the star lies, seen from the
ring: one of eight directions. Other objects lie around them or hide part of them. So the evidence
is in two places, and neither says anything without the other. Some answers can't be sure: where an
object is mostly hidden, or where the direction is near the border of two classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ib.zoo.painting import blend, draw
from captum_ib.zoo.scenes import LabelledScenes
from captum_ib.zoo.shapes import COLOURS, SHAPES, coverage

DIRECTIONS: tuple[str, ...] = (
    "right",
    "lower right",
    "below",
    "lower left",
    "left",
    "upper left",
    "above",
    "upper right",
)
"""The classes: where the star lies, seen from the ring, each an eighth of the full turn."""

MAX_OBJECTS = 7
"""Places for objects: three in the back, the ring, the star, two in front."""

_RING, _STAR = 3, 4  # places, from back to front
_FRONT = 5  # the places from here on lie on the ring and on the star
_SHAPE = {_RING: SHAPES.index("ring"), _STAR: SHAPES.index("star")}
_OTHERS = [kind for kind in range(len(SHAPES)) if kind not in _SHAPE.values()]
_CELLS = 3  # objects in the back sit in distinct cells of a 3 x 3 grid
_LEAST_SEEN = 0.1  # share of the ring and of the star that what is in front leaves visible

# Uniform numbers per image, as in ``painting``.
_FIELDS: dict[str, int] = {
    "count": 1,
    "order": MAX_OBJECTS,
    "direction": 1,
    "distance": 1,
    "middle": 2,
    "cells": _CELLS**2,
    "jitter": 2 * _RING,
    "over": 2,
    "away": 2,
    "radius": MAX_OBJECTS,
    "angle": MAX_OBJECTS,
    "kind": MAX_OBJECTS,
    "colour": MAX_OBJECTS,
    "tone": 3 * MAX_OBJECTS,
    "ground": 4,
    "texture": 3 * 12**2,
}


@dataclass(frozen=True)
class RelatedScenes(LabelledScenes):
    """Scenes with a class each; K is 7, from back to front.

    ``labels`` are positions in ``DIRECTIONS``; ``evidence`` marks the ring and the star.

    Attributes:
        centres: ``(N, 2, 2)`` float32 x and y of the ring and of the star, as shares of the sides.
        seen: ``(N, 2)`` float32 in [0, 1], the share of the ring and of the star that no other
            object hides.
        margin: ``(N,)`` float32, degrees from the direction to the nearest border between two
            classes, 0 to 22.5.
    """

    centres: Tensor
    seen: Tensor
    margin: Tensor

    @property
    def ring(self) -> Tensor:
        """``(N, H, W)`` bool: pixels of the ring."""
        return self.masks[:, _RING]

    @property
    def star(self) -> Tensor:
        """``(N, H, W)`` bool: pixels of the star."""
        return self.masks[:, _STAR]


def labelled(
    n: int,
    *,
    seed: int | torch.Generator = 0,
    start: int = 0,
    size: int | tuple[int, int] = 96,
    objects: tuple[int, int] = (3, MAX_OBJECTS),
) -> RelatedScenes:
    """Scenes of which the class is the direction from the ring to the star.

    Args:
        n: Number of scenes.
        seed: A number >= 0, or a generator from which one is drawn.
        start: Index of the first scene: ``labelled(5, start=3)`` gives scenes 3 to 7 of the seed.
        size: Height and width of the images in pixels (one number: square).
        objects: Fewest and most objects per image, ring and star included, within 2 and 7.

    Returns:
        The scenes.

    Raises:
        TypeError, ValueError: If an argument is of the wrong type or out of range.

    Example:
        >>> scenes = labelled(3, seed=0)
        >>> scenes.images.shape, scenes.mask.shape
        (torch.Size([3, 3, 96, 96]), torch.Size([3, 96, 96]))
        >>> bool((scenes.mask == (scenes.ring | scenes.star)).all())
        True
    """
    within = (2, MAX_OBJECTS)
    draws, noise = draw(n, seed, start, size, objects, within=within, fields=_FIELDS)
    height, width = noise.shape[2:]
    turn = draws["direction"][:, 0] * len(DIRECTIONS)  # in eighths of a turn, clockwise from right
    shapes = _shapes(draws, objects)
    radii = _radii(draws) * min(height, width)
    centres = _centres(draws, turn, radii / min(height, width))
    angles = (draws["angle"] - 0.5) * 2 * torch.pi
    places = centres * torch.tensor([width, height])
    alpha = coverage(shapes, places, radii, angles, (height, width))
    shapes, seen = _unhide(shapes, alpha)
    alpha = alpha * (shapes >= 0)[..., None, None]
    colours = (draws["colour"] * len(COLOURS)).long().where(shapes >= 0, torch.tensor(-1))
    evidence = torch.zeros_like(shapes, dtype=torch.bool)
    evidence[:, [_RING, _STAR]] = True
    return RelatedScenes(
        **blend(draws, noise, alpha, colours, shapes),
        labels=turn.round().long() % len(DIRECTIONS),
        evidence=evidence,
        centres=centres[:, [_RING, _STAR]],
        seen=seen,
        margin=(0.5 - (turn - turn.round()).abs()) * 45,
    )


def _shapes(draws: dict[str, Tensor], objects: tuple[int, int]) -> Tensor:
    """(N, K) shape ids: ring and star, and others in as many of the other places as drawn."""
    fewest, most = objects
    count = fewest + (draws["count"] * (most - fewest + 1)).long()
    order = draws["order"].clone()
    order[:, [_RING, _STAR]] = -1.0  # always there
    present = order.argsort(1).argsort(1) < count
    kinds = torch.tensor(_OTHERS)[(draws["kind"] * len(_OTHERS)).long()]
    for place, kind in _SHAPE.items():
        kinds[:, place] = kind
    return kinds.where(present, torch.tensor(-1))


def _radii(draws: dict[str, Tensor]) -> Tensor:
    """(N, K) shares of the shorter side; what lies in front is about as large as what it hides."""
    return 0.10 + 0.025 * draws["radius"]


def _centres(draws: dict[str, Tensor], turn: Tensor, radii: Tensor) -> Tensor:
    """(N, K, 2) x and y as shares of the sides."""
    n = len(turn)
    ray = torch.stack([(turn * torch.pi / 4).cos(), (turn * torch.pi / 4).sin()], dim=-1)
    middle = 0.5 + (draws["middle"] - 0.5) * 0.3
    reach = (0.14 + 0.08 * draws["distance"]) * ray
    pair = torch.stack([middle - reach, middle + reach], dim=1)
    cell = draws["cells"].argsort(1)[:, :_RING]
    corner = torch.stack([cell % _CELLS, cell // _CELLS], dim=-1)
    back = (corner - 1 + (draws["jitter"].reshape(n, _RING, 2) - 0.5) * 0.4) * 0.31 + 0.5
    over = draws["over"] * 2 * torch.pi
    away = (0.5 + 0.7 * draws["away"]) * radii[:, [_RING, _STAR]]
    front = pair + away[..., None] * torch.stack([over.cos(), over.sin()], dim=-1)
    return torch.cat([back, pair, front], dim=1)


def _unhide(shapes: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Leave out what lies in front where it hides nearly all; (N, K) shapes, (N, 2) shares seen."""
    pair, front = alpha[:, [_RING, _STAR]], alpha[:, _FRONT:]

    def share(covers: Tensor) -> Tensor:
        clear = (1 - covers).prod(1, keepdim=True)
        return (pair * clear).sum((2, 3)) / pair.sum((2, 3))

    shown = share(front).amin(1) >= _LEAST_SEEN
    shapes = shapes.clone()
    shapes[:, _FRONT:] = shapes[:, _FRONT:].where(shown[:, None], torch.tensor(-1))
    return shapes, share(front * shown[:, None, None, None])


__all__ = ["DIRECTIONS", "MAX_OBJECTS", "RelatedScenes", "labelled"]
