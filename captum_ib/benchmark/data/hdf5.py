"""Images and masks of ImageNet-Segmentation's file (MATLAB 7.3, which is HDF5), read with care.

HDF5 can name other files, in links and as the place of data, and data can be large where the file
is small. So links are followed inside the file only, data that lie elsewhere are refused, and sizes
are looked at before anything is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from captum_ib.extras import need

_FILTERS = {1, 2, 3}  # deflate, shuffle, checksum: what MATLAB writes, and the library's own
_MOST = 10**7  # images of a file


class MatFile:
    """The images of a file, opened anew for each, so that it can be read from any process.

    Args:
        path: of ``gtsegs_ijcv.mat``: cells ``value/img`` of images and ``value/gt`` of cells with a
            mask each.

    Raises:
        ValueError: it is no such file.
        MissingExtraError: h5py is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._h5py: Any = need("h5py", "reading MATLAB's files", extra="hdf5")
        self._path = path
        with self._opened() as file:
            try:
                cells = [self._inside(file, "value", name) for name in ("img", "gt")]
                shapes = [self._checked(cell, "O", _MOST).shape for cell in cells]
            except ValueError as error:
                raise ValueError(f"{path} is no ImageNet-Segmentation: {error}") from error
        if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][1] != 1:
            raise ValueError(f"{path}: value/img and value/gt are {shapes[0]} and {shapes[1]}")
        self._length = shapes[0][0]

    def __len__(self) -> int:
        return self._length

    def read(self, place: int, most: int) -> tuple[Image.Image, np.ndarray]:
        """An image in RGB and its mask ``(H, W)`` bool.

        Raises:
            ValueError: it can't be read, has more than ``most`` pixels, or an empty mask.
        """
        with self._opened() as file:
            try:
                cells = [self._inside(file, "value", name) for name in ("img", "gt")]
                pixels = self._checked(self._at(file, cells[0], place), "u", 4 * most)[()]
                inner = self._checked(self._at(file, cells[1], place), "O", _MOST)
                mask = self._checked(self._at(file, inner, 0), "uib", most)[()]
            except (OSError, RuntimeError, KeyError, TypeError) as error:
                raise ValueError(f"the file can't be read: {error}") from error
        return _picture(pixels), _mask(mask, pixels.shape)

    def _opened(self) -> Any:
        try:
            return self._h5py.File(self._path, "r")
        except OSError as error:
            raise ValueError(f"{self._path} can't be read as HDF5: {error}") from error

    def _inside(self, file: Any, *names: str) -> Any:
        """What stands under names, through links that stay in the file."""
        home = file
        for name in names:
            if not isinstance(home, self._h5py.Group):
                raise ValueError(f"{name} is not in a group")
            link = home.get(name, getlink=True)
            if not isinstance(link, self._h5py.HardLink):
                told = "missing" if link is None else "a link that may lead out of the file"
                raise ValueError(f"{'/'.join(names)} is {told}")
            home = home[name]
        return home

    def _at(self, file: Any, cells: Any, place: int) -> Any:
        """What a cell refers to."""
        reference = cells[place, 0]
        if not isinstance(reference, self._h5py.Reference) or not reference:
            raise ValueError("a cell refers to nothing")
        return file[reference]

    def _checked(self, data: Any, kinds: str, most: int) -> Any:
        """A dataset that lies in the file, of a kind and size that can be."""
        if not isinstance(data, self._h5py.Dataset):
            raise ValueError("it is no dataset")
        if data.external or data.is_virtual:
            raise ValueError("its data lie in another file")
        size = int(np.prod(data.shape or (0,), dtype=object))
        chunk = int(np.prod(data.chunks or (0,), dtype=object))
        if not 0 < size <= most or chunk > max(most, 2**20):
            raise ValueError(f"it has {size} values in chunks of {chunk}, at most {most} can be")
        known = self._h5py.check_ref_dtype(data.dtype) is self._h5py.Reference
        if not (known if kinds == "O" else data.dtype.kind in kinds and data.dtype.itemsize <= 8):
            raise ValueError(f"it holds {data.dtype}")
        plist = data.id.get_create_plist()
        used = {plist.get_filter(number)[0] for number in range(plist.get_nfilters())}
        if not used <= _FILTERS:
            raise ValueError(f"it is packed by unknown filters {sorted(used - _FILTERS)}")
        return data


def _picture(pixels: np.ndarray) -> Image.Image:
    """MATLAB counts columns first: ``(3, W, H)``, or ``(W, H)`` for grey."""
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[0] in (1, 3))
    ):
        raise ValueError(f"an image of shape {pixels.shape} and type {pixels.dtype}")
    picture = pixels.transpose() if pixels.ndim == 2 else pixels.transpose(2, 1, 0)
    picture = picture[..., 0] if picture.ndim == 3 and picture.shape[2] == 1 else picture
    return Image.fromarray(np.ascontiguousarray(picture)).convert("RGB")


def _mask(mask: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if mask.shape != shape[-2:]:
        raise ValueError(f"the mask is {mask.shape}, the image {shape[-2:]} (columns, rows)")
    marked = np.ascontiguousarray(mask.transpose() != 0)
    if not marked.any():
        raise ValueError("the mask is empty")
    return marked
