"""Pictures and masks from files; whatever is wrong with one is a ``ValueError`` that says it."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from captum_ib.rgb import as_rgb

T = TypeVar("T")

MAX_PIXELS = 89_478_485
"""More are taken for a decompression bomb; Pillow warns from the same number on."""

SUFFIXES = frozenset(".avif .bmp .gif .jpeg .jpg .png .ppm .tif .tiff .webp".split())
"""Endings, in small letters, of the files that a folder of pictures is searched for."""

# What Pillow's decoders raise on files with bytes cut off or changed (found by changing some).
_BROKEN = (
    ArithmeticError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


def read_picture(
    path: str | os.PathLike[str], most: int = MAX_PIXELS, *, upright: bool = True
) -> Image.Image:
    """A picture in RGB; transparency is dropped, of several frames the first is taken.

    Args:
        path: of the file.
        most: pixels; more are refused before they are decoded.
        upright: turned as the EXIF data say. Not where a mask's coordinates mean the file's own.

    Raises:
        ValueError: no file, no picture, a broken or a huge one.
    """

    def convert(picture: Image.Image) -> Image.Image:
        return as_rgb(ImageOps.exif_transpose(picture) if upright else picture)

    return _read(path, most, "image", convert)


def read_mask(
    path: str | os.PathLike[str], size: tuple[int, int], most: int = MAX_PIXELS
) -> np.ndarray:
    """``(H, W)`` bool, ``True`` where a picture is not 0 in some channel; alpha does not count.

    Args:
        path: of the file; not JPEG, which blurs the edge of 0.
        size: (width, height) that it must have.
        most: pixels.

    Raises:
        ValueError: as :func:`read_picture`; a JPEG; another size than the image's.
    """

    def convert(picture: Image.Image) -> np.ndarray:
        if picture.format == "JPEG":
            raise ValueError("JPEG smears the edges of a mask; save it as PNG")
        if picture.size != size:
            own, wanted = ("{} x {}".format(*pair) for pair in (picture.size, size))
            raise ValueError(f"it is {own} pixels large, the image {wanted}")
        values = np.asarray(picture) != 0
        if values.ndim == 3:
            values = values[..., [band != "A" for band in picture.getbands()]].any(axis=-1)
        return values

    return _read(path, most, "mask", convert)


def read_indices(
    path: str | os.PathLike[str], size: tuple[int, int], most: int = MAX_PIXELS
) -> np.ndarray:
    """``(H, W)`` of uint8: the values of a picture with a palette, or of a grey one.

    Args:
        path: of the file.
        size: (width, height) that it must have.
        most: pixels.

    Raises:
        ValueError: as :func:`read_picture`; another mode, or another size than the image's.
    """

    def convert(picture: Image.Image) -> np.ndarray:
        if picture.mode not in ("P", "L") or picture.format == "JPEG":
            raise ValueError(
                f"its pixels are {picture.mode} ({picture.format}), no numbers of classes"
            )
        if picture.size != size:
            own, wanted = ("{} x {}".format(*pair) for pair in (picture.size, size))
            raise ValueError(f"it is {own} pixels large, the image {wanted}")
        return np.asarray(picture).copy()

    return _read(path, most, "segmentation", convert)


def _read(
    path: str | os.PathLike[str], most: int, what: str, convert: Callable[[Image.Image], T]
) -> T:
    """Open a picture, look at its size, and only then decode it."""
    if not os.path.exists(path):
        raise ValueError(f"{what} {shown(path)} is missing")
    if not os.path.isfile(path):  # a pipe would be waited for
        raise ValueError(f"{what} {shown(path)} is no file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata, picture by picture
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                count = picture.size[0] * picture.size[1]
                if count > most:
                    raise ValueError(f"it has {count} pixels, more than {most}")
                return convert(picture)
    except _BROKEN as error:
        told = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            told = "it is no picture that Pillow knows"
        raise ValueError(f"{what} {shown(Path(path).name)} can't be read: {told}") from error


def shown(path: str | os.PathLike[str]) -> str:
    r"""A path with ``/`` that any file can hold: bytes that are no UTF-8 are written out.

    >>> shown(b"cat/\xff.png".decode("utf-8", "surrogateescape"))
    'cat/\\xff.png'
    """
    return os.fsencode(Path(path).as_posix()).decode("utf-8", "backslashreplace")


def max_pixels(given: int | None) -> int:
    """The limit that data's options ask for.

    Raises:
        ValueError: below 1, or above what Pillow itself refuses.
    """
    if given is None:
        return MAX_PIXELS
    if not 1 <= given <= MAX_PIXELS:
        raise ValueError(f"max_pixels must be within 1 and {MAX_PIXELS}, given {given}")
    return given
