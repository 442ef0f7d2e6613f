"""Deep pictures in every room that opens pictures: as their 8-bit copies."""

import numpy as np
import pytest
from PIL import Image

from captum_ib.benchmark.data.pictures import read_picture
from captum_ib.explaining.pictures import read_image
from captum_ib.loading.loaded import Resize
from captum_ib.rgb import as_rgb

RAMP = np.tile(np.linspace(0, 1, 64), (48, 1))
COPY = (RAMP * 255).astype(np.uint8)
"""The ramp with 8 bits; its mean is 127."""

DEEP = {
    "16 bits, png": ("x.png", (RAMP * 65535).astype(np.uint16)),
    "16 bits, tiff": ("x.tif", (RAMP * 65535).astype(np.uint16)),
    "32 bits, 8 used": ("x.tif", COPY.astype(np.int32)),
    "32 bits, 16 used": ("x.tif", (RAMP * 65535).astype(np.int32)),
    "32 bits": ("x.tif", (RAMP * (2**31 - 1)).astype(np.int32)),
    "float to 1": ("x.tif", RAMP.astype(np.float32)),
    "float to 255": ("x.tif", (RAMP * 255).astype(np.float32)),
    "float to 65535": ("x.tif", (RAMP * 65535).astype(np.float32)),
}


@pytest.mark.parametrize("read", [read_image, read_picture])
@pytest.mark.parametrize("depth", DEEP)
def test_a_deep_picture_is_its_8_bit_copy(depth, read, tmp_path):
    name, values = DEEP[depth]
    Image.fromarray(values).save(tmp_path / name)
    found = np.asarray(read(tmp_path / name))
    assert found.mean() == pytest.approx(127, abs=0.1)
    assert np.abs(found.astype(int) - COPY[..., None]).max() <= 1


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B"])
def test_the_order_of_bytes_does_not_matter(mode):
    order = ">u2" if mode.endswith("B") else "<u2"
    data = (RAMP * 65535).astype(order).tobytes()
    found = np.asarray(as_rgb(Image.frombytes(mode, (64, 48), data)))
    assert found[..., 0].tolist() == COPY.tolist()


def test_8_bits_come_back_from_floats_unchanged():
    every = np.arange(256, dtype=np.float32)[None]
    found = np.asarray(as_rgb(Image.fromarray(every / 255)))
    assert found[0, :, 0].tolist() == list(range(256))


def test_a_preprocessing_that_is_given_a_deep_picture_sees_its_copy():
    see = Resize((48, 64), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    deep = see(Image.fromarray(DEEP["16 bits, png"][1]))
    assert deep.mean().item() == pytest.approx(127 / 255, abs=0.001)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[-1.0, 0.5]], dtype=np.float32), "values from -1 to 0.5 has no known white"),
        (np.array([[0.0, np.inf]], dtype=np.float32), "mode F with values from 0 to inf"),
        (np.array([[np.nan, 0.5]], dtype=np.float32), "has no known white; save it with 8 or 16"),
        (np.array([[-5, 9]], dtype=np.int32), "mode I with values from -5 to 9"),
    ],
)
def test_a_picture_without_a_known_white_is_refused(values, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        as_rgb(Image.fromarray(values))
    Image.fromarray(values).save(tmp_path / "x.tif")
    for read in (read_image, read_picture):
        with pytest.raises(ValueError, match=r"x\.tif can't be read.*no known white"):
            read(tmp_path / "x.tif")
