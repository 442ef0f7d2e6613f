"""Generate images of coloured shapes together with the truth about them: masks, words, classes.

Two kinds of scenes, both on textured, noisy ground: :func:`captioned` ones (1 to 4 objects, a
caption that names some of them) and :func:`labelled` ones (the class is the one shape that is no
distractor). Image ``i`` of a seed depends on ``(seed, i)`` only, not on the batch it is drawn in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captum_ib.zoo import captions as language
from captum_ib.zoo.shapes import COLOURS, DISTRACTOR_SHAPES, NAMED_SHAPES, SHAPES, coverage

MAX_OBJECTS = 4
_CELLS = 3  # objects sit in distinct cells of a 3 x 3 grid, so none hides another
_COARSE = 6  # grid of the ground's texture
_N_COMBINATIONS = len(COLOURS) * len(NAMED_SHAPES)

# Uniform numbers per image that describe the scene; those for the pixels follow, so that the same
# image can be drawn at any size.
_FIELDS: dict[str, int] = {
    "count": 1,
    "cells": _CELLS**2,
    "combinations": _N_COMBINATIONS,
    "jitter": 2 * MAX_OBJECTS,
    "radius": MAX_OBJECTS,
    "angle": MAX_OBJECTS,
    "tone": 3 * MAX_OBJECTS,
    "order": MAX_OBJECTS,
    "mention": 2,
    "wording": 3,
    "distractor": MAX_OBJECTS,
    "ground": 4,
    "texture": 3 * _COARSE**2,
}


@dataclass(frozen=True)
class Scenes:
    """N images and what is in them; K is the number of places for objects (4).

    Attributes:
        images: ``(N, 3, H, W)`` float32 in [0, 1].
        ground: ``(N, 3, H, W)`` the same images without their objects.
        cover: ``(N, K, H, W)`` float32 in [0, 1], the share of each pixel that shows the object.
            Edges are anti-aliased over one pixel; what another object hides is not counted. An
            image differs from its ground where the cover is above 0, nowhere else.
        masks: ``(N, K, H, W)`` bool, pixels with a cover of more than half. They never overlap.
        boxes: ``(N, K, 4)`` int64 x0, y0, x1, y1 of the masks, x1 and y1 exclusive; 0 without mask.
        colours: ``(N, K)`` int64 positions in ``COLOURS``, -1 where there is no object.
        shapes: ``(N, K)`` int64 positions in ``SHAPES``, -1 where there is no object.
    """

    images: Tensor
    ground: Tensor
    cover: Tensor
    masks: Tensor
    boxes: Tensor
    colours: Tensor
    shapes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    @property
    def present(self) -> Tensor:
        """``(N, K)`` bool: where there is an object."""
        return self.shapes >= 0


@dataclass(frozen=True)
class CaptionedScenes(Scenes):
    """Scenes with a caption each.

    Attributes:
        captions: N captions of at most 14 words.
        content: Per caption and word, whether the word carries content (colour or shape).
        mentions: ``(N, 3, 2)`` int64 colour and shape id per phrase; -1: left open, -2: no phrase.
        mentioned: ``(N, K)`` bool, the objects that some phrase of the caption describes.
    """

    captions: list[str]
    content: list[list[bool]]
    mentions: Tensor
    mentioned: Tensor

    @property
    def mask(self) -> Tensor:
        """``(N, H, W)`` bool: pixels of the objects that the caption names."""
        return (self.masks & self.mentioned[..., None, None]).any(1)


@dataclass(frozen=True)
class LabelledScenes(Scenes):
    """Scenes with a class each.

    Attributes:
        labels: ``(N,)`` int64 positions in ``NAMED_SHAPES``.
        evidence: ``(N, K)`` bool, the one object whose shape is the class.
    """

    labels: Tensor
    evidence: Tensor

    @property
    def mask(self) -> Tensor:
        """``(N, H, W)`` bool: pixels of the object whose shape is the class."""
        return (self.masks & self.evidence[..., None, None]).any(1)


def captioned(
    n: int,
    *,
    seed: int | torch.Generator = 0,
    start: int = 0,
    size: int | tuple[int, int] = 56,
    objects: tuple[int, int] = (1, MAX_OBJECTS),
) -> CaptionedScenes:
    """Scenes with captions that name one to three of their objects.

    No two objects of an image share both colour and shape. One caption in five with a single
    phrase leaves the colour or the shape open ("a circle", "a red shape"); ``mentioned`` then
    holds all objects that fit.

    Args:
        n: Number of scenes.
        seed: A number >= 0, or a generator from which one is drawn.
        start: Index of the first scene: ``captioned(5, start=3)`` gives scenes 3 to 7 of the seed.
        size: Height and width of the images in pixels (one number: square).
        objects: Fewest and most objects per image, within 1 and 4.

    Returns:
        The scenes.

    Raises:
        TypeError, ValueError: If an argument is of the wrong type or out of range.

    Example:
        >>> scenes = captioned(2, seed=0)
        >>> scenes.images.shape, scenes.masks.shape
        (torch.Size([2, 3, 56, 56]), torch.Size([2, 4, 56, 56]))
        >>> bool((scenes.mask == captioned(1, seed=0, start=1).mask).all(dim=(1, 2))[1])
        True
    """
    draws, pixels = _draw(n, seed, start, size, objects)
    present = _present(draws, objects)
    combination = draws["combinations"].argsort(1)[:, :MAX_OBJECTS]
    shapes = (combination % len(NAMED_SHAPES)).where(present, torch.tensor(-1))
    colours = (combination // len(NAMED_SHAPES)).where(present, torch.tensor(-1))
    mentions = _mentions(draws, colours, shapes)
    sentences = []
    for row, choice in zip(mentions.tolist(), draws["wording"].tolist(), strict=True):
        said = [pair for pair in row if pair[0] != language.NO_MENTION]
        sentences.append(language.write(said, choice))
    return CaptionedScenes(
        **_paint(draws, pixels, colours, shapes),
        captions=[" ".join(words) for words in sentences],
        content=[[language.is_content(word) for word in words] for words in sentences],
        mentions=mentions,
        mentioned=language.describes(mentions, colours, shapes).any(1),
    )


def labelled(
    n: int,
    *,
    seed: int | torch.Generator = 0,
    start: int = 0,
    size: int | tuple[int, int] = 64,
    objects: tuple[int, int] = (1, MAX_OBJECTS),
) -> LabelledScenes:
    """Scenes of which the class is the one shape that is no distractor.

    One object has one of seven shapes, its class; all others have shapes that belong to no class
    (bar, oval, semicircle). Colours say nothing. So the evidence is where that one object is.

    Args:
        n, seed, start, size: As for :func:`captioned`.
        objects: Fewest and most objects per image, the one of the class included.

    Returns:
        The scenes.

    Raises:
        TypeError, ValueError: If an argument is of the wrong type or out of range.

    Example:
        >>> scenes = labelled(3, seed=0)
        >>> scenes.labels.shape, scenes.mask.shape
        (torch.Size([3]), torch.Size([3, 64, 64]))
    """
    draws, pixels = _draw(n, seed, start, size, objects)
    present = _present(draws, objects)
    combination = draws["combinations"].argsort(1)[:, :MAX_OBJECTS]
    # Which of the objects is the class: the first in a random order of those that are there.
    first = draws["order"].where(present, torch.tensor(2.0)).argmin(1, keepdim=True)
    evidence = torch.zeros_like(present).scatter(1, first, True)
    distractor = len(NAMED_SHAPES) + (draws["distractor"] * len(DISTRACTOR_SHAPES)).long()
    shapes = (combination % len(NAMED_SHAPES)).where(evidence, distractor)
    shapes = shapes.where(present, torch.tensor(-1))
    colours = (combination // len(NAMED_SHAPES)).where(present, torch.tensor(-1))
    return LabelledScenes(
        **_paint(draws, pixels, colours, shapes),
        labels=shapes.gather(1, first)[:, 0],
        evidence=evidence,
    )


def demo(n: int = 4, seed: int = 2026) -> CaptionedScenes:
    """Captioned scenes for demonstrations: two to four objects each, size 56.

    Example:
        >>> len(demo(3).captions)
        3
    """
    return captioned(n, seed=seed, objects=(2, MAX_OBJECTS))


def _draw(
    n: int,
    seed: int | torch.Generator,
    start: int,
    size: int | tuple[int, int],
    objects: tuple[int, int],
) -> tuple[dict[str, Tensor], Tensor]:
    """Check the arguments, then draw every random number: named fields (N, ·), pixel noise."""
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2:
        raise ValueError(f"size must be one number or (height, width); got {size}.")
    height, width = sides
    for name, value, least in (("n", n, 1), ("start", start, 0), ("size", min(height, width), 16)):
        if not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number; got {value!r}.")
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}.")
    if not 1 <= objects[0] <= objects[1] <= MAX_OBJECTS:
        raise ValueError(f"objects must be (fewest, most) within 1..{MAX_OBJECTS}; got {objects}.")
    if isinstance(seed, torch.Generator):
        drawn = torch.randint(2**62, (), generator=seed, device=seed.device)
        seed = int(drawn)
    if not isinstance(seed, int):
        raise TypeError(f"seed must be a whole number or a torch.Generator; got {seed!r}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in 0..2**64 - 1; got {seed}.")
    total = sum(_FIELDS.values())
    numbers = np.empty((n, total + 3 * height * width), dtype=np.float32)
    for index in range(n):
        # A counter-based generator: the key (seed, index) is a stream of its own.
        key = np.array([seed, start + index], dtype=np.uint64)
        np.random.Generator(np.random.Philox(key=key)).random(out=numbers[index], dtype=np.float32)
    values = torch.from_numpy(numbers)
    named = values[:, :total].split(list(_FIELDS.values()), dim=1)
    noise = values[:, total:].reshape(n, 3, height, width) - 0.5
    return dict(zip(_FIELDS, named, strict=True)), noise


def _present(draws: dict[str, Tensor], objects: tuple[int, int]) -> Tensor:
    """(N, K) bool: the first ``count`` places hold an object."""
    fewest, most = objects
    count = fewest + (draws["count"] * (most - fewest + 1)).long()
    return torch.arange(MAX_OBJECTS) < count


def _mentions(draws: dict[str, Tensor], colours: Tensor, shapes: Tensor) -> Tensor:
    """Choose what to say: (N, 3, 2) colour and shape ids of one to three of the objects."""
    present = shapes >= 0
    order = draws["order"].where(present, torch.tensor(2.0)).argsort(1)[:, : language.MAX_MENTIONS]
    mentions = torch.stack([colours.gather(1, order), shapes.gather(1, order)], dim=-1)
    most = present.sum(1).clamp(max=language.MAX_MENTIONS)
    count = 1 + (draws["mention"][:, 0] * most).long()
    silent = torch.arange(language.MAX_MENTIONS) >= count[:, None]
    mentions[silent] = language.NO_MENTION
    # Only a lone phrase leaves something open; two open phrases could describe the same object.
    lone, openness = count == 1, draws["mention"][:, 1]
    mentions[lone & (openness < 0.1), 0, 0] = language.UNSAID
    mentions[lone & (openness > 0.9), 0, 1] = language.UNSAID
    return mentions


def _paint(
    draws: dict[str, Tensor], noise: Tensor, colours: Tensor, shapes: Tensor
) -> dict[str, Tensor]:
    """Draw the ground, then the objects from back to front: the fields of :class:`Scenes`."""
    n, _, height, width = noise.shape
    level = draws["ground"][:, :1] * 0.3 + 0.35 + (draws["ground"][:, 1:] - 0.5) * 0.12
    texture = functional.interpolate(
        draws["texture"].reshape(n, 3, _COARSE, _COARSE) - 0.5,
        size=(height, width),
        mode="bilinear",
        align_corners=True,
    )
    ground = (level[:, :, None, None] + 0.25 * texture + 0.2 * noise).clamp(0, 1)

    alpha = _coverage(draws, shapes, (height, width))
    palette = torch.tensor(list(COLOURS.values()))
    tone = palette[colours.clamp(min=0)] + (draws["tone"].reshape(n, -1, 3) - 0.5) * 0.1
    images, visible = ground, torch.zeros_like(alpha)
    for place in range(MAX_OBJECTS):
        cover = alpha[:, place, None]
        painted = (tone[:, place, :, None, None] + 0.1 * noise).clamp(0, 1)
        images = images + cover * (painted - images)
        visible = visible * (1 - cover)
        visible[:, place] = alpha[:, place]
    masks = visible > 0.5
    return {
        "images": images,
        "ground": ground,
        "cover": visible,
        "masks": masks,
        "boxes": _boxes(masks),
        "colours": colours,
        "shapes": shapes,
    }


def _coverage(draws: dict[str, Tensor], shapes: Tensor, size: tuple[int, int]) -> Tensor:
    """Place the objects: distinct cells, jittered; named shapes stay nearly upright."""
    height, width = size
    cell = draws["cells"].argsort(1)[:, :MAX_OBJECTS]
    corner = torch.stack([cell % _CELLS, cell // _CELLS], dim=-1)
    jitter = (draws["jitter"].reshape(-1, MAX_OBJECTS, 2) - 0.5) * 0.25
    centres = ((corner - 1 + jitter) * 0.31 + 0.5) * torch.tensor([width, height])
    radii = (0.14 + 0.05 * draws["radius"]) * min(height, width)
    # A square on its corner would be a diamond, so only distractors turn freely.
    turn = torch.where(shapes < len(NAMED_SHAPES), math.pi / 6, 2 * math.pi)
    return coverage(shapes, centres, radii, (draws["angle"] - 0.5) * turn, size)


def _boxes(masks: Tensor) -> Tensor:
    """(N, K, 4) int64 x0, y0, x1, y1 of masks (N, K, H, W); zeros for an empty mask."""
    sides = []
    for axis in (-2, -1):  # collapse rows for x, columns for y
        line = masks.any(axis).long()
        low = line.argmax(-1)
        high = line.shape[-1] - line.flip(-1).argmax(-1)
        sides.append((low, high))
    (x0, x1), (y0, y1) = sides
    boxes = torch.stack([x0, y0, x1, y1], dim=-1)
    return boxes * masks.flatten(2).any(-1, keepdim=True)


__all__ = [
    "COLOURS",
    "DISTRACTOR_SHAPES",
    "MAX_OBJECTS",
    "NAMED_SHAPES",
    "SHAPES",
    "CaptionedScenes",
    "LabelledScenes",
    "Scenes",
    "captioned",
    "demo",
    "labelled",
]
