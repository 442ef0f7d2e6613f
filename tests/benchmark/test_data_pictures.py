"""Pictures and masks that can be read, and the reasons why others can't."""

from __future__ import annotations

import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from captum_ib.benchmark import UnreadableSampleError
from captum_ib.benchmark.data.pictures import (
    MAX_PIXELS,
    SUFFIXES,
    max_pixels,
    read_mask,
    read_picture,
)

GREY = np.full((4, 6), 77, dtype=np.uint8)


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def save(folder, name, pixels, **settings):
    path = folder / name
    Image.fromarray(pixels).save(path, **settings)
    return path


def huge_png(path, side):
    """A file of a hundred bytes that claims to be side x side pixels large."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data)
    return path


def test_a_picture_as_it_is(tmp_path, noise):
    image = read_picture(save(tmp_path, "a.png", noise))
    assert image.mode == "RGB"
    assert np.array_equal(np.asarray(image), noise)


def test_every_mode_becomes_rgb(tmp_path):
    path = tmp_path / "a.png"
    for mode in ("1", "L", "LA", "P", "RGBA"):
        Image.fromarray(GREY).convert(mode).save(path)
        assert read_picture(path).mode == "RGB"


def test_upright(tmp_path, noise):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    path = save(tmp_path, "a.png", noise, exif=exif)
    assert np.array_equal(np.asarray(read_picture(path)), np.rot90(noise, -1))
    assert np.array_equal(np.asarray(read_picture(path, upright=False)), noise)


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_decompression_bombs(tmp_path, side):
    path = huge_png(tmp_path / "a.png", side)
    assert path.stat().st_size < 200
    with pytest.raises(ValueError, match="a.png can't be read: Image size .* exceeds"):
        read_picture(path)


def test_a_limit_of_ones_own(tmp_path, noise):
    path = save(tmp_path, "a.png", noise)
    assert read_picture(path, 2000).size == (50, 40)
    with pytest.raises(ValueError, match="it has 2000 pixels, more than 1999"):
        read_picture(path, 1999)
    # The size is looked at first: this file has no pixels that could be decoded.
    with pytest.raises(ValueError, match="it has 250000 pixels, more than 1999"):
        read_picture(huge_png(tmp_path / "b.png", 500), 1999)


def test_the_limit_is_pillows_at_most():
    assert max_pixels(None) == MAX_PIXELS == Image.MAX_IMAGE_PIXELS
    assert max_pixels(10) == 10
    for wrong in (0, MAX_PIXELS + 1):
        with pytest.raises(ValueError, match=f"max_pixels must be within 1 and .*, given {wrong}"):
            max_pixels(wrong)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm"])
def test_truncated_files(tmp_path, noise, ending):
    assert f".{ending}" in SUFFIXES
    path = save(tmp_path, f"a.{ending}", noise)
    whole = path.read_bytes()
    for share in (0, 0.01, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=rf"^image a.{ending} can't be read: \S"):
            read_picture(path)


def test_changed_bytes_are_a_reason_and_no_crash(tmp_path, noise):
    rng = np.random.default_rng(0)
    read = refused = 0
    for ending in ("png", "jpg", "gif", "webp"):
        whole = save(tmp_path, f"a.{ending}", noise).read_bytes()
        for _ in range(50):
            content = bytearray(whole)
            content[rng.integers(min(200, len(whole)))] ^= 1 << rng.integers(8)
            path = tmp_path / f"b.{ending}"
            path.write_bytes(content)
            try:
                read_picture(path, 10_000)
                read += 1
            except ValueError:
                refused += 1
    assert read > 10 and refused > 10  # both happen, nothing else does


@pytest.mark.parametrize("content", [b"", b"no picture", b"<svg/>"])
def test_what_is_no_picture(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="it is no picture that Pillow knows") as caught:
        read_picture(path)
    assert str(caught.value) == "image a.png can't be read: it is no picture that Pillow knows"


def test_what_is_no_file(tmp_path):
    with pytest.raises(ValueError, match="image .*a.png is missing"):
        read_picture(tmp_path / "a.png")
    with pytest.raises(ValueError, match="is no file"):
        read_picture(tmp_path)
    (tmp_path / "link.png").symlink_to("nowhere.png")
    with pytest.raises(ValueError, match="is missing"):
        read_picture(tmp_path / "link.png")
    os.mkfifo(tmp_path / "pipe.png")  # opening it would wait for ever
    with pytest.raises(ValueError, match="is no file"):
        read_picture(tmp_path / "pipe.png")


def test_the_error_crosses_processes():
    error = pickle.loads(pickle.dumps(UnreadableSampleError("a", "why")))  # noqa: S301
    assert (error.id, error.reason, str(error)) == ("a", "why", "a: why")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_masks_of_every_mode(tmp_path, mode):
    truth = np.zeros((4, 6), dtype=bool)
    truth[1, 2:4] = True
    path = tmp_path / "a.png"
    if mode == "I;16":
        picture = Image.fromarray(truth.astype(np.uint16) * 256)
    else:
        picture = Image.fromarray(truth.astype(np.uint8) * 255).convert(mode)
    picture.save(path)
    assert np.array_equal(read_mask(path, (6, 4)), truth)


def test_masks_of_small_numbers_and_transparent_ones(tmp_path):
    labels = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert np.array_equal(read_mask(save(tmp_path, "a.png", labels), (6, 4)), labels > 0)
    opaque = np.zeros((4, 6, 4), dtype=np.uint8)
    opaque[..., 3] = 255
    assert not read_mask(save(tmp_path, "b.png", opaque), (6, 4)).any()


def test_masks_that_do_not_fit(tmp_path):
    with pytest.raises(ValueError, match="it is 6 x 4 pixels large, the image 4 x 6"):
        read_mask(save(tmp_path, "a.png", GREY), (4, 6))
    with pytest.raises(ValueError, match="JPEG smears the edges of a mask"):
        read_mask(save(tmp_path, "a.jpg", GREY), (6, 4))
    with pytest.raises(ValueError, match="mask .*b.png is missing"):
        read_mask(tmp_path / "b.png", (6, 4))
