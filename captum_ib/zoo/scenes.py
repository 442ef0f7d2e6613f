"""Generate images of coloured shapes together with the truth about them: masks, words, classes.

Two kinds of scenes, both on textured, noisy ground: :func:`captioned` ones (1 to 4 objects, a
caption that names some of them) and :func:`labelled` ones (the class is the one shape that is no
distractor). Image ``i`` of a seed depends on ``(seed, i)`` only, not on the batch it is drawn in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ib.zoo import captions as language
from captum_ib.zoo.painting import MAX_OBJECTS, draw, paint
from captum_ib.zoo.shapes import COLOURS, DISTRACTOR_SHAPES, NAMED_SHAPES, SHAPES


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
    draws, pixels = draw(n, seed, start, size, objects)
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
        **paint(draws, pixels, colours, shapes),
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
    draws, pixels = draw(n, seed, start, size, objects)
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
        **paint(draws, pixels, colours, shapes),
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
