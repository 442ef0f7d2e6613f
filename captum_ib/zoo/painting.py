"""Draw the random numbers of scenes, and paint the pixels from them."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from captum_ib.zoo.shapes import COLOURS, NAMED_SHAPES, coverage

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


def draw(
    n: int,
    seed: int | torch.Generator,
    start: int,
    size: int | tuple[int, int],
    objects: tuple[int, int],
    *,
    within: tuple[int, int] = (1, MAX_OBJECTS),
    fields: Mapping[str, int] = _FIELDS,
) -> tuple[dict[str, Tensor], Tensor]:
    """Check the arguments, then draw every random number: named fields (N, ·), pixel noise.

    ``within`` bounds ``objects``; ``fields`` says how many numbers each named field has.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2:
        raise ValueError(f"size must be one number or (height, width); got {size}.")
    height, width = sides
    for name, value, least in (("n", n, 1), ("start", start, 0), ("size", min(height, width), 16)):
        if not isinstance(value, int):
            raise TypeError(f"{name} must be a whole number; got {value!r}.")
        if value < least:
            raise ValueError(f"{name} must be at least {least}; got {value}.")
    if not within[0] <= objects[0] <= objects[1] <= within[1]:
        raise ValueError(
            f"objects must be (fewest, most) within {within[0]}..{within[1]}; got {objects}."
        )
    if isinstance(seed, torch.Generator):
        drawn = torch.randint(2**62, (), generator=seed, device=seed.device)
        seed = int(drawn)
    if not isinstance(seed, int):
        raise TypeError(f"seed must be a whole number or a torch.Generator; got {seed!r}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in 0..2**64 - 1; got {seed}.")
    total = sum(fields.values())
    numbers = np.empty((n, total + 3 * height * width), dtype=np.float32)
    for index in range(n):
        # A counter-based generator: the key (seed, index) is a stream of its own.
        key = np.array([seed, start + index], dtype=np.uint64)
        np.random.Generator(np.random.Philox(key=key)).random(out=numbers[index], dtype=np.float32)
    values = torch.from_numpy(numbers)
    named = values[:, :total].split(list(fields.values()), dim=1)
    noise = values[:, total:].reshape(n, 3, height, width) - 0.5
    return dict(zip(fields, named, strict=True)), noise


def paint(
    draws: dict[str, Tensor], noise: Tensor, colours: Tensor, shapes: Tensor
) -> dict[str, Tensor]:
    """Draw the ground, then the objects from back to front: the fields of :class:`Scenes`."""
    ground = _ground(draws, noise)
    alpha = _coverage(draws, shapes, (noise.shape[2], noise.shape[3]))
    tone = _tone(draws, colours)
    images, visible = ground, torch.zeros_like(alpha)
    for place in range(MAX_OBJECTS):
        cover = alpha[:, place, None]
        painted = (tone[:, place, :, None, None] + 0.1 * noise).clamp(0, 1)
        images = images + cover * (painted - images)
        visible = visible * (1 - cover)
        visible[:, place] = alpha[:, place]
    return _fields(images, ground, visible, colours, shapes)


def blend(
    draws: dict[str, Tensor], noise: Tensor, alpha: Tensor, colours: Tensor, shapes: Tensor
) -> dict[str, Tensor]:
    """Draw what ``alpha`` (N, K, H, W) covers, from back to front, onto the ground.

    The same as :func:`paint` up to roundings and edges between colours at their limits, all objects
    at once: several times faster where there are many.
    """
    ground = _ground(draws, noise)
    clear = (1 - alpha).flip(1).cumprod(1).flip(1)  # of this place and all before it
    visible = alpha.clone()
    visible[:, :-1] *= clear[:, 1:]
    tone = _tone(draws, colours)
    objects = torch.einsum("nkhw,nkc->nchw", visible, tone)
    objects += 0.1 * noise * visible.sum(1, keepdim=True)
    images = (ground * clear[:, :1] + objects).clamp(0, 1)
    return _fields(images, ground, visible, colours, shapes)


def _ground(draws: dict[str, Tensor], noise: Tensor) -> Tensor:
    """(N, 3, H, W): one level per channel, a coarse texture and the noise."""
    level = draws["ground"][:, :1] * 0.3 + 0.35 + (draws["ground"][:, 1:] - 0.5) * 0.12
    side = math.isqrt(draws["texture"].shape[1] // 3)
    texture = functional.interpolate(
        draws["texture"].reshape(len(noise), 3, side, side) - 0.5,
        size=noise.shape[2:],
        mode="bilinear",
        align_corners=True,
    )
    return (level[:, :, None, None] + 0.25 * texture + 0.2 * noise).clamp(0, 1)


def _tone(draws: dict[str, Tensor], colours: Tensor) -> Tensor:
    """(N, K, 3): the colours of the objects, each a little its own."""
    palette = torch.tensor(list(COLOURS.values()))
    own = draws["tone"].reshape(len(colours), -1, 3) - 0.5
    return palette[colours.clamp(min=0)] + own * 0.1


def _fields(
    images: Tensor, ground: Tensor, visible: Tensor, colours: Tensor, shapes: Tensor
) -> dict[str, Tensor]:
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
