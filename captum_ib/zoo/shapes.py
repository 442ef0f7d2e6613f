"""Draw coloured shapes: signed distances, coverage of pixels, and the palette of the scenes.

Every shape is a function of local coordinates ``(u, v)`` (``v`` points down, the shape fills about
``[-1, 1]``) that returns a signed distance, negative inside. A batch of objects is drawn at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.10, 0.12),
    "green": (0.10, 0.62, 0.16),
    "blue": (0.12, 0.22, 0.86),
    "yellow": (0.95, 0.90, 0.12),
    "purple": (0.58, 0.12, 0.66),
    "orange": (0.98, 0.52, 0.05),
    "white": (0.98, 0.98, 0.98),
    "black": (0.03, 0.03, 0.03),
}
"""The names of the colours and their RGB values in [0, 1]; a colour's id is its position."""


def _circle(u: Tensor, v: Tensor) -> Tensor:
    return torch.hypot(u, v) - 0.92


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - 0.80


def _triangle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(v, math.sqrt(0.75) * u.abs() - 0.5 * v) - 0.55


def _cross(u: Tensor, v: Tensor) -> Tensor:
    a, b = u.abs(), v.abs()
    return torch.minimum(
        torch.maximum(a - 0.95, b - 0.30),
        torch.maximum(b - 0.95, a - 0.30),
    )


def _ring(u: Tensor, v: Tensor) -> Tensor:
    return (torch.hypot(u, v) - 0.70).abs() - 0.24


def _star(u: Tensor, v: Tensor) -> Tensor:
    """Five points: the angle is folded into one tenth of a turn, where the star has one edge."""
    outer, inner, fold = 1.05, 0.45, math.pi / 5
    radius = torch.hypot(u, v)
    angle = torch.atan2(u, -v).abs() % (2 * fold)
    angle = torch.minimum(angle, 2 * fold - angle)
    x, y = radius * angle.cos(), radius * angle.sin()
    dx, dy = inner * math.cos(fold) - outer, inner * math.sin(fold)
    length = math.hypot(dx, dy)
    return ((x - outer) * dy - y * dx) / length


def _diamond(u: Tensor, v: Tensor) -> Tensor:
    width, height = 0.62, 1.02
    scale = width * height / math.hypot(width, height)
    return (u.abs() / width + v.abs() / height - 1) * scale


def _bar(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs() - 1.02, v.abs() - 0.30)


def _oval(u: Tensor, v: Tensor) -> Tensor:
    return (torch.hypot(u / 1.02, v / 0.50) - 1) * 0.50


def _semicircle(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(torch.hypot(u, v - 0.4) - 0.95, v - 0.4)


_OUTLINES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
    "star": _star,
    "diamond": _diamond,
    "bar": _bar,
    "oval": _oval,
    "semicircle": _semicircle,
}

SHAPES: tuple[str, ...] = tuple(_OUTLINES)
"""The names of all shapes; a shape's id is its position."""

NAMED_SHAPES: tuple[str, ...] = SHAPES[:7]
"""The shapes that captions name and that are classes of the classification task."""

DISTRACTOR_SHAPES: tuple[str, ...] = SHAPES[7:]
"""The shapes that belong to no class."""


def coverage(
    shapes: Tensor,
    centres: Tensor,
    radii: Tensor,
    angles: Tensor,
    size: tuple[int, int],
) -> Tensor:
    """Share of every pixel that each object covers, occlusion left out.

    Args:
        shapes: ``(N, K)`` shape ids, -1 where there is no object.
        centres: ``(N, K, 2)`` x and y of the centres, in pixels.
        radii: ``(N, K)`` radii in pixels.
        angles: ``(N, K)`` clockwise rotations in radians.
        size: ``(H, W)`` of the image.

    Returns:
        ``(N, K, H, W)`` float in [0, 1]. The edge is one pixel wide (anti-aliasing): 1 from half a
        pixel inside the outline, 0 from half a pixel outside of it.
    """
    height, width = size
    ys = torch.arange(height, dtype=torch.float32)[:, None] + 0.5
    xs = torch.arange(width, dtype=torch.float32)[None, :] + 0.5
    result = torch.zeros(*shapes.shape, height, width)
    for kind, outline in enumerate(_OUTLINES.values()):
        where = (shapes == kind).nonzero(as_tuple=True)
        if not len(where[0]):
            continue
        centre = centres[where]
        radius = radii[where][:, None, None]
        cos, sin = angles[where].cos()[:, None, None], angles[where].sin()[:, None, None]
        dx = (xs - centre[:, 0, None, None]) / radius
        dy = (ys - centre[:, 1, None, None]) / radius
        distance = outline(dx * cos + dy * sin, dy * cos - dx * sin) * radius
        result[where] = (0.5 - distance).clamp(0, 1)
    return result
