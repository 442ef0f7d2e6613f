"""Uploads: what is read, and what is refused with which words."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from captum_ib.app.uploads import Limits, read_upload


def test_a_picture_is_read_upright_and_in_rgb(tmp_path):
    picture = Image.new("L", (4, 2), 7)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    picture.save(tmp_path / "x.jpg", exif=exif)
    read = read_upload(tmp_path / "x.jpg", Limits())
    assert (read.mode, read.size) == ("RGB", (2, 4))


def test_more_pixels_than_the_limit_are_not_decoded(tmp_path, monkeypatch):
    Image.new("1", (3000, 2000)).save(tmp_path / "x.png")  # a few hundred bytes
    monkeypatch.setattr(Image.Image, "convert", None)  # decoding would fail otherwise
    with pytest.raises(ValueError, match="3000 × 2000 pixels are too many, at most 5 million"):
        read_upload(tmp_path / "x.png", Limits(megapixels=5))


@pytest.mark.parametrize("size", [(1, 40_000), (40_000, 1), (10, 501)])
def test_a_strip_is_not_decoded(tmp_path, monkeypatch, size):
    # A model that makes its short side 224 pixels long makes the long one millions.
    Image.new("1", size).save(tmp_path / "x.png")
    monkeypatch.setattr(Image.Image, "convert", None)  # decoding would fail otherwise
    with pytest.raises(ValueError, match="pixels are too long a strip, at most 1 : 50 is read"):
        read_upload(tmp_path / "x.png", Limits())


def test_a_panorama_is_read(tmp_path):
    Image.new("RGB", (500, 10)).save(tmp_path / "x.png")
    assert read_upload(tmp_path / "x.png", Limits()).size == (500, 10)


def tiled(width: int, height: int) -> bytes:
    """A TIFF of 64 × 64 pixels in one tile of another size, without the tile."""
    tags = {256: 64, 257: 64, 258: 8, 259: 8, 262: 1, 277: 1, 322: width, 323: height}
    tags |= {324: 8 + 2 + 12 * 10 + 4, 325: 4}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + b"0000"


def test_a_tile_larger_than_the_picture_is_not_decoded(tmp_path, monkeypatch):
    (tmp_path / "x.tif").write_bytes(tiled(20_000, 20_000))
    monkeypatch.setattr(Image.Image, "convert", None)  # decoding would fail otherwise
    with pytest.raises(ValueError, match="^x.tif can't be read: its tiles of 20000 × 20000 pixels"):
        read_upload(tmp_path / "x.tif", Limits())
    (tmp_path / "x.tif").write_bytes(tiled(20_000, 0))
    with pytest.raises(ValueError, match="^x.tif can't be read: "):
        read_upload(tmp_path / "x.tif", Limits())


def test_just_as_many_pixels_as_the_limit_are_read(tmp_path):
    Image.new("RGB", (50, 20)).save(tmp_path / "x.png")
    assert read_upload(tmp_path / "x.png", Limits(megapixels=0.001)).size == (50, 20)
    with pytest.raises(ValueError, match="at most 0.000999 million"):
        read_upload(tmp_path / "x.png", Limits(megapixels=0.000999))


def test_more_bytes_than_the_limit(tmp_path):
    (tmp_path / "x.png").write_bytes(b"0" * 2_000_001)
    with pytest.raises(ValueError, match=r"^x.png has 2.0 MB, at most 2 MB are read"):
        read_upload(tmp_path / "x.png", Limits(megabytes=2))


@pytest.mark.parametrize(
    "content", [b"", b"no picture", b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
)
def test_what_is_no_picture(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        read_upload(tmp_path / "x.png", Limits())
    message = str(caught.value)
    assert message.startswith("x.png can't be read: it is not a picture in one of the formats PNG")
    assert str(tmp_path) not in message


def test_a_format_that_calls_another_program_is_not_tried(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "x.eps")
    with pytest.raises(ValueError, match="not a picture in one of the formats"):
        read_upload(tmp_path / "x.eps", Limits())


def test_a_broken_picture(tmp_path):
    Image.effect_noise((64, 64), 50).save(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:900])
    with pytest.raises(ValueError, match=r"^x.png can't be read: .*truncated"):
        read_upload(tmp_path / "x.png", Limits())


def test_a_file_that_was_cleaned_away(tmp_path):
    with pytest.raises(ValueError, match=r"^x.png is no longer kept: upload it again"):
        read_upload(tmp_path / "x.png", Limits())


@pytest.mark.parametrize("name", ["megabytes", "megapixels"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_limits_let_something_through(name, value):
    with pytest.raises(ValueError, match=f"the limit in {name} must be above 0"):
        Limits(**{name: value})
