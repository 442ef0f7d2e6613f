"""From numbers to colours: scales of attributions, and overlays on the image they explain."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import Normalize

Array = np.ndarray | torch.Tensor

SEQUENTIAL = "viridis"
DIVERGING = "RdBu_r"
_LUMA = np.array([0.299, 0.587, 0.114])  # how bright an RGB colour looks (ITU-R BT.601)


@dataclass(frozen=True)
class Scale:
    """How numbers become colours: limits and colour map.

    Args:
        low: value of the first colour.
        high: value of the last colour; greater than ``low``.
        cmap: name of a matplotlib colour map.
    """

    low: float
    high: float
    cmap: str = SEQUENTIAL

    @classmethod
    def of(cls, values: Array, signed: bool | None = None) -> Scale:
        """The scale that fits ``values``.

        A map of zeros gets the limits (0, 1) or (-1, 1), so it is drawn in the colour of 0; any
        other constant map is its own largest magnitude and gets that colour everywhere.

        Args:
            values: attributions of any shape, without NaN or inf.
            signed: draw with the diverging map, centred on 0; ``None`` (default) does so when a
                value is negative.

        Raises:
            ValueError: ``values`` is empty or holds NaN or inf, or ``signed=False`` and a value is
                negative.

        >>> Scale.of(np.array([0.5, 2.0]))
        Scale(low=0.0, high=2.0, cmap='viridis')
        >>> Scale.of(np.array([-3.0, 1.0]))
        Scale(low=-3.0, high=3.0, cmap='RdBu_r')
        """
        array = checked_numbers(values, "attribution")
        if array.size == 0:
            raise ValueError(f"attribution is empty, shape {array.shape}")
        if signed is False and array.min() < 0:
            raise ValueError(
                f"attribution has negative values (down to {array.min():g}), which a sequential "
                "colour scale can't show; pass signed=True"
            )
        top = float(np.abs(array).max()) or 1.0
        if signed or (signed is None and array.min() < 0):
            return cls(-top, top, DIVERGING)
        return cls(0.0, top, SEQUENTIAL)

    @property
    def norm(self) -> Normalize:
        """Matplotlib's form of the limits."""
        return Normalize(self.low, self.high, clip=True)

    def colors(self, values: np.ndarray) -> np.ndarray:
        """RGB of each value: shape ``values.shape + (3,)``, in [0, 1]."""
        return np.asarray(colormaps[self.cmap](self.norm(values)))[..., :3]


def overlay(
    image: Array,
    attribution: Array,
    *,
    signed: bool | None = None,
    opacity: float = 0.6,
    scale: Scale | None = None,
) -> np.ndarray:
    """The attribution's colours laid over the image in grey.

    Args:
        image: (3, H, W) or (H, W, 3), values in [0, 1].
        attribution: (h, w), (1, h, w) or (1, 1, h, w), any unit; brought to (H, W) bilinearly, as
            Captum's ``LayerAttribution.interpolate`` does.
        signed: see :meth:`Scale.of`.
        opacity: share of the colour in the mixture, in [0, 1]; the rest is the grey image.
        scale: limits and colours to use instead of those that fit this map, to compare maps.

    Returns:
        RGB array (H, W, 3), float in [0, 1].

    Raises:
        TypeError: an input is neither a tensor nor an array, or the image holds integers.
        ValueError: a shape is wrong, a value is NaN, inf or, in the image, outside [0, 1].

    >>> overlay(np.ones((8, 8, 3)), np.eye(2), opacity=1.0).shape
    (8, 8, 3)
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity must lie in [0, 1], got {opacity}")
    pixels = checked_image(image)
    values = _upsampled(attribution, pixels.shape[:2])
    scale = scale or Scale.of(attribution, signed)
    grey = pixels @ _LUMA
    return (1 - opacity) * grey[..., None] + opacity * scale.colors(values)


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


def _upsampled(attribution: Array, size: tuple[int, ...]) -> np.ndarray:
    """``attribution`` as (H, W), bilinearly (``align_corners=False``)."""
    array = checked_numbers(attribution, "attribution")
    if not 2 <= array.ndim <= 4 or any(n != 1 for n in array.shape[:-2]) or array.size == 0:
        raise ValueError(
            "attribution must have shape (h, w), (1, h, w) or (1, 1, h, w) (one image at a time), "
            f"got {array.shape}"
        )
    maps = torch.from_numpy(array.reshape(1, 1, *array.shape[-2:]))
    maps = torch.nn.functional.interpolate(maps, size=list(size), mode="bilinear")
    return maps[0, 0].numpy()
