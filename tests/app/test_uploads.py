"""Uploads: what is read, and what is refused with which words."""

from __future__ import annotations

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
