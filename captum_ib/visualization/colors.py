"""From numbers to colours: the scale of a map, and the map laid over the picture it explains."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Normalize

from captum_ib.collapse import FLOOR_BITS
from captum_ib.visualization.style import SEQUENTIAL, Style

Array = np.ndarray | torch.Tensor

CELLS = 32
"""Larger maps are averaged to so many cells a side before they are drawn."""
_LUMA = np.array([0.299, 0.587, 0.114])  # how bright an RGB colour looks (ITU-R BT.601)
_FULL = 0.5  # from this share of the scale on, a colour has the whole opacity
_NARROW = 0.5  # a map whose weakest value is above this share of its strongest starts there
_BEHIND = 0.12  # grey where nothing remains of the picture


@dataclass(frozen=True)
class Scale:
    """How numbers become colours: limits, colour map, and the value that is transparent.

    Args:
        low: value of the first colour.
        high: value of the last colour; greater than ``low``.
        cmap: name of a matplotlib colour map.
        zero: the value that has no colour; within the limits.
        clipped: percentile at which the colours end, where values lie beyond; ``None``: none do.
    """

    low: float
    high: float
    cmap: str = SEQUENTIAL
    zero: float = 0.0
    clipped: float | None = None

    @classmethod
    def of(
        cls,
        values: Array,
        signed: bool | None = None,
        *,
        style: Style | None = None,
        unit: str = "",
    ) -> Scale:
        """The scale that fits ``values``.

        Values of both signs get limits symmetric about 0, so that 0 has the middle colour and is
        transparent. Values of one sign go from 0 to the strongest one; where even the weakest is
        more than half of that, they start at the weakest. What lies beyond the style's percentile
        has the last colour. In bits the scale ends at 1 at least: less is not stretched over all
        colours.

        Args:
            values: attributions of any shape, without NaN or inf.
            signed: ``False`` refuses values below 0; ``True`` and ``None`` take the sign from the
                values.
            style: percentile and colour maps (default: those of ``Style()``).
            unit: of the values; ``"bits"`` has a floor.

        Raises:
            ValueError: ``values`` is empty or holds NaN or inf, or ``signed=False`` and a value is
                negative.

        >>> Scale.of(np.array([0.5, 2.0]))
        Scale(low=0.0, high=2.0, cmap='viridis', zero=0.0, clipped=None)
        >>> Scale.of(np.array([-3.0, 1.0])).low
        -3.0
        """
        style = style or Style()
        array = checked_numbers(values, "attribution")
        if array.size == 0:
            raise ValueError(f"attribution is empty, shape {array.shape}")
        low, high = float(array.min()), float(array.max())
        if signed is False and low < 0:
            raise ValueError(
                f"attribution has negative values (down to {low:g}), which a sequential "
                "colour scale can't show; pass signed=True"
            )
        size, most = np.abs(array), max(-low, high)
        # "higher" keeps small maps whole: below 200 cells the 99.5th percentile is the maximum.
        top = float(np.percentile(size, style.percentile, method="higher")) or most
        clipped = style.percentile if top < most else None
        top = max(top, FLOOR_BITS if unit == "bits" else 0.0) or 1.0
        if low < 0 < high:
            return cls(-top, top, style.diverging, 0.0, clipped)
        least = float(size.min())
        start = least if _NARROW * top < least < top and unit != "bits" else 0.0
        if low < 0:
            return cls(-top, -start, style.negative, -start, clipped)
        return cls(start, top, style.sequential, start, clipped)

    def from_zero(self) -> Scale:
        """The same, but begun at 0: a word without colour has the value 0."""
        return replace(self, low=min(self.low, 0.0), high=max(self.high, 0.0), zero=0.0)

    @property
    def norm(self) -> Normalize:
        """Matplotlib's form of the limits."""
        return Normalize(self.low, self.high, clip=True)

    def colors(self, values: np.ndarray) -> np.ndarray:
        """RGB of each value: shape ``values.shape + (3,)``, in [0, 1]."""
        return np.asarray(colormaps[self.cmap](self.norm(values)))[..., :3]

    def strength(self, values: np.ndarray) -> np.ndarray:
        """How far each value is from the transparent one, as a share of the scale, in [0, 1]."""
        reach = max(self.high - self.zero, self.zero - self.low)
        return (np.abs(values - self.zero) / reach).clip(0, 1)

    def blend(self, values: np.ndarray, base: np.ndarray, style: Style) -> np.ndarray:
        """The colours of values over what lies below them, both ``(…, 3)`` in [0, 1]."""
        strength = self.strength(values)[..., None]
        if style.masked:
            if self.low < 0 < self.high:  # what speaks against the answer does not remain
                strength = strength * (values > 0)[..., None]
            return strength * base + (1 - strength) * _BEHIND
        if style.grey:
            base = np.repeat((base @ _LUMA)[..., None], 3, axis=-1)
        share = style.opacity * (strength / _FULL).clip(0, 1)
        return (1 - share) * base + share * self.colors(values)

    def on_white(self, values: np.ndarray, style: Style) -> np.ndarray:
        """The colours of words and colour bars: over white, so that 0 is white."""
        plain = replace(style, masked=False, grey=False)
        return self.blend(values, np.ones((*values.shape, 3)), plain)


def overlay(
    image: Array,
    attribution: Array,
    *,
    signed: bool | None = None,
    style: Style | None = None,
    scale: Scale | None = None,
) -> np.ndarray:
    """The map's colours laid over the picture; a value of 0 is transparent.

    Args:
        image: (3, H, W) or (H, W, 3), values in [0, 1].
        attribution: (h, w), (1, h, w) or (1, 1, h, w), any unit; brought to (H, W) bilinearly, as
            Captum's ``LayerAttribution.interpolate`` does. Maps finer than 32 cells a side are
            averaged first (:func:`pooled`).
        signed: see :meth:`Scale.of`.
        style: opacity, colours, contours, or what remains (default: ``Style()``).
        scale: limits and colours to use instead of those that fit this map, to compare maps.

    Returns:
        RGB array (H, W, 3), float in [0, 1].

    Raises:
        TypeError: an input is neither a tensor nor an array, or the image holds integers.
        ValueError: a shape is wrong, a value is NaN, inf or, in the image, outside [0, 1].

    >>> overlay(np.ones((8, 8, 3)), np.eye(2)).shape
    (8, 8, 3)
    """
    style = style or Style()
    pixels = checked_image(image)
    cells, _ = pooled(attribution)
    scale = scale or Scale.of(cells, signed, style=style)
    values = _upsampled(cells, pixels.shape[:2])
    shown = scale.blend(values, pixels, style)
    return _with_contours(shown, scale.strength(values), style.contours)


def pooled(attribution: Array, cells: int = CELLS) -> tuple[np.ndarray, int]:
    """A fine map as means of square blocks, for display, and how many values wide a block is.

    Scattered pixels of a photograph (Integrated Gradients) can't be seen; their means can.

    Args:
        attribution: (h, w), (1, h, w) or (1, 1, h, w).
        cells: at most so many a side; a block at the lower or right edge may be cut.

    >>> pooled(np.arange(16.0).reshape(4, 4), cells=2)
    (array([[ 2.5,  4.5],
           [10.5, 12.5]]), 2)
    """
    values = one_map(attribution)
    block = -(-max(values.shape) // cells)
    if block == 1:
        return values, 1
    rows, columns = (np.arange(0, length, block) for length in values.shape)
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    heights = np.diff(rows, append=values.shape[0])
    widths = np.diff(columns, append=values.shape[1])
    return sums / (heights[:, None] * widths), block


def enlarged(image: Array, side: int = 448) -> np.ndarray:
    """The picture as (H, W, 3), each pixel repeated until the longer side has ``side`` of them."""
    pixels = checked_image(image)
    factor = max(1, -(-side // max(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def checked_numbers(values: Array, name: str) -> np.ndarray:
    """``values`` as a float64 array; ``name`` is what errors call it."""
    if isinstance(values, torch.Tensor):
        values = values.detach().to(dtype=torch.float64, device="cpu").numpy()
    if not isinstance(values, np.ndarray):
        raise TypeError(f"{name} must be a tensor or a numpy array, got {type(values).__name__}")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} holds NaN or inf, which have no colour")
    return values.astype(np.float64)


def checked_image(image: Array) -> np.ndarray:
    """``image`` as (H, W, 3); where both ends have length 3, tensors are (3, H, W), arrays not."""
    if not isinstance(image, (np.ndarray, torch.Tensor)):
        raise TypeError(f"image must be a tensor or a numpy array, got {type(image).__name__}")
    floating = (
        image.is_floating_point()
        if isinstance(image, torch.Tensor)
        else np.issubdtype(image.dtype, np.floating)
    )
    if not floating:
        raise TypeError(f"image must hold floats in [0, 1], got {image.dtype}; divide by 255")
    array = checked_numbers(image, "image")
    if array.ndim != 3 or 3 not in (array.shape[0], array.shape[2]):
        raise ValueError(f"image must have shape (3, H, W) or (H, W, 3), got {array.shape}")
    if array.shape[2] != 3 or (array.shape[0] == 3 and isinstance(image, torch.Tensor)):
        array = array.transpose(1, 2, 0)
    if array.min() < -1e-4 or array.max() > 1 + 1e-4:
        raise ValueError(
            f"image must lie in [0, 1], got [{array.min():g}, {array.max():g}]; undo the model's "
            "normalisation (x * std + mean) first"
        )
    return array.clip(0, 1)


def readable_on(color: np.ndarray) -> str:
    """Black or white, whichever has more contrast (WCAG 2: their luminances meet at 0.179)."""
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
    return "white" if linear @ np.array([0.2126, 0.7152, 0.0722]) < 0.179 else "black"


def _with_contours(pixels: np.ndarray, strength: np.ndarray, lines: int) -> np.ndarray:
    """White lines in a dark seam where the strength crosses equal steps."""
    thick = max(1, round(max(pixels.shape[:2]) / 220))
    for level in np.arange(1, lines + 1) / (lines + 1):
        inside = strength >= level
        line = _grown(inside, thick) & ~inside
        seam = _grown(line, thick) & ~line
        pixels = np.where(seam[..., None], 0.35 * pixels, pixels)
        pixels = np.where(line[..., None], 1.0, pixels)
    return pixels


def _grown(mask: np.ndarray, by: int) -> np.ndarray:
    """The mask and its neighbours up to ``by`` pixels away, in four directions."""
    for _ in range(by):
        wide = np.pad(mask, 1)
        mask = mask | wide[2:, 1:-1] | wide[:-2, 1:-1] | wide[1:-1, 2:] | wide[1:-1, :-2]
    return mask


def one_map(attribution: Array) -> np.ndarray:
    """``attribution`` as (h, w)."""
    array = checked_numbers(attribution, "attribution")
    if not 2 <= array.ndim <= 4 or any(n != 1 for n in array.shape[:-2]) or array.size == 0:
        raise ValueError(
            "attribution must have shape (h, w), (1, h, w) or (1, 1, h, w) (one image at a time), "
            f"got {array.shape}"
        )
    return array.reshape(array.shape[-2:])


def _upsampled(values: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A map as (H, W), bilinearly (``align_corners=False``)."""
    maps = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    maps = torch.nn.functional.interpolate(maps, size=list(size), mode="bilinear")
    return maps[0, 0].numpy()
