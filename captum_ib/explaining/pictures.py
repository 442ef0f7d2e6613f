"""Read pictures from files, upright and in RGB, with limits for files from strangers."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob, has_magic
from pathlib import Path

from PIL import Image, ImageOps

from captum_ib.explaining.output import printable
from captum_ib.rgb import as_rgb

MAX_SHAPE = 50
"""How many times longer than wide a stranger's picture may be, or wider than long. Models make the
short side as long as their own input, and the long one as much longer."""


def expanded(paths: Sequence[Path]) -> list[Path]:
    """Files of pictures: those given, those in a given folder, and those that a pattern names.

    Raises:
        ValueError: a folder without pictures, a pattern that names none.
    """
    return [file for path in paths for file in _files(path)]


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        Image.init()
        found = [
            file
            for file in sorted(path.iterdir())
            if file.suffix.lower() in Image.EXTENSION and file.is_file()
        ]
        if not found:
            raise ValueError(f"the folder {printable(path)} holds no picture")
        return found
    if has_magic(str(path)) and not path.exists():
        found = sorted(Path(name) for name in glob(str(path), recursive=True))
        if not found:
            raise ValueError(f"no file is named as {printable(path)} says")
        return found
    return [path]


def read_image(
    path: Path, *, max_pixels: int | None = None, formats: tuple[str, ...] | None = None
) -> Image.Image:
    """The picture in a file, turned upright as its EXIF data say, in RGB.

    Args:
        path: the file.
        max_pixels: width times height that is still decoded, of at most 1 : 50; the file's header
            is enough to refuse more (default: Pillow's own limit of 179 million, of any shape).
        formats: names of Pillow's formats to try (default: all that it knows).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a picture, or a broken or a huge one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"image {printable(path)} does not exist or is not a file")
    try:
        with Image.open(path, formats=formats) as picture:
            width, height = picture.size
            if max_pixels is not None and width * height > max_pixels:
                raise ValueError(
                    f"{width} × {height} pixels are too many, at most {max_pixels / 1e6:g} million "
                    "are read; scale it down"
                )
            if max_pixels is not None and max(width, height) > MAX_SHAPE * min(width, height):
                raise ValueError(
                    f"{width} × {height} pixels are too long a strip, at most 1 : {MAX_SHAPE} is "
                    "read; cut a part out of it"
                )
            return as_rgb(ImageOps.exif_transpose(picture))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"image {printable(path)} can't be read: {error}") from error
