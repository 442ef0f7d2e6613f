"""Read what comes over the network: pictures and sounds in few formats, limited in size."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from captum_ib.explaining.pictures import read_image
from captum_ib.loading.sounds import Sound, read_sound

TILEWIDTH, TILELENGTH = 322, 323  # tags of TIFF 6.0
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
"""Formats that are decoded; Pillow knows more, some of which call other programs."""


@dataclass(frozen=True)
class Limits:
    """How large an upload may be.

    Attributes:
        megabytes: of the file (default 20).
        megapixels: of the picture in it, whatever the file's size (default 40).

    Raises:
        ValueError: a limit that lets nothing through.
    """

    megabytes: float = 20
    megapixels: float = 40

    def __post_init__(self) -> None:
        for name in ("megabytes", "megapixels"):
            if not getattr(self, name) > 0:
                raise ValueError(f"the limit in {name} must be above 0, got {getattr(self, name)}")

    @property
    def size(self) -> int:
        """The file's limit in bytes."""
        return int(self.megabytes * 1e6)

    @property
    def pixels(self) -> int:
        """The picture's limit in pixels."""
        return int(self.megapixels * 1e6)


def read_upload(path: Path, limits: Limits, name: str = "") -> Image.Image:
    """The picture in an uploaded file, upright and in RGB; messages hold its name, not its place.

    Args:
        path: where it is.
        limits: checked before anything is decoded.
        name: what its sender calls it (default: its name at ``path``).

    Raises:
        ValueError: it is no picture of a known format, a broken or too large one, or it is gone.
    """
    name = name or path.name
    _require_small(path, limits, name)
    try:
        _require_small_tiles(path, limits)
        return read_image(path, max_pixels=limits.pixels, formats=FORMATS)
    except ValueError as error:
        reason = str(error).partition(" can't be read: ")[2]
        if "cannot identify" in reason:
            reason = f"it is not a picture in one of the formats {', '.join(FORMATS)}"
        raise ValueError(f"{name} can't be read: {reason}") from error


def read_heard(path: Path, limits: Limits, name: str = "") -> Sound:
    """The sound in an uploaded WAV file; messages hold its name, not its place.

    Raises:
        ValueError: it is no WAV file, a broken or too large one, or it is gone.
    """
    name = name or path.name
    _require_small(path, limits, name)
    try:
        _require_honest(path)
        return read_sound(path)
    except ValueError as error:
        reason = str(error).partition(" can't be read: ")[2].partition(";")[0] or str(error)
        raise ValueError(f"{name} can't be read: {reason}; only WAV files are") from error


def _require_small(path: Path, limits: Limits, name: str) -> None:
    try:
        size = path.stat().st_size
    except OSError:
        raise ValueError(f"{name} is no longer kept: upload it again") from None
    if size > limits.size:
        raise ValueError(
            f"{name} has {size / 1e6:.1f} MB, at most {limits.megabytes:g} MB are read; make it "
            "smaller"
        )


def _require_honest(path: Path) -> None:
    """The parts of a WAV file may not say that they are longer than the file: room is made first.

    Raises:
        ValueError: a part that does.
    """
    whole = path.stat().st_size
    with path.open("rb") as file:
        orders = {b"RIFF": "<I", b"RIFX": ">I"}  # RF64 is for more bytes than are taken
        order = orders.get(file.read(4))
        if order is None:
            raise ValueError("it is no WAV file")
        place = 12
        while place + 8 <= whole:
            file.seek(place + 4)
            (size,) = struct.unpack(order, file.read(4))
            if place + 8 + size > whole:
                raise ValueError("it ends before its end")
            place += 8 + size + size % 2


def _require_small_tiles(path: Path, limits: Limits) -> None:
    """A TIFF is decoded tile by tile, and a tile may be far larger than the picture that it holds.

    Raises:
        ValueError: a tile of too many pixels.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            tags = getattr(picture, "tag_v2", {})
            width, height = (tags.get(tag, 0) for tag in (TILEWIDTH, TILELENGTH))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return  # said when it is read
    if not isinstance(width, int) or not isinstance(height, int):
        raise ValueError(f"{path} can't be read: its tiles have no size")
    if width * height > limits.pixels:
        raise ValueError(
            f"{path} can't be read: its tiles of {width} × {height} pixels are too large, at most "
            f"{limits.megapixels:g} million are read; save it without tiles"
        )
