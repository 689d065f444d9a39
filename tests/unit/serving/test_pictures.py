import io

import numpy as np
import pytest
from PIL import Image

from vla_kit.errors import DataError
from vla_kit.serving.pictures import decode_picture


def file(image, kind):
    written = io.BytesIO()
    image.save(written, format=kind)
    return written.getvalue()


NOISE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def test_png_comes_back_exactly_and_jpeg_nearly():
    png = decode_picture(file(Image.fromarray(NOISE), "PNG"), key="a", max_pixels=35)
    assert np.array_equal(png, NOISE)
    plain = Image.new("RGB", (16, 16), (10, 200, 30))
    jpeg = decode_picture(file(plain, "JPEG"), key="a", max_pixels=256)
    assert np.abs(jpeg.astype(int) - np.array([10, 200, 30])).max() <= 3


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1"])
def test_other_modes_become_colours(mode):
    picture = decode_picture(file(Image.new(mode, (4, 3), 1), "PNG"), key="a", max_pixels=12)
    assert picture.shape == (3, 4, 3)
    assert picture.dtype == np.uint8


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        file(Image.fromarray(NOISE), "PNG")[:-30],
        file(Image.fromarray(NOISE), "JPEG")[:-30],
        file(Image.fromarray(NOISE), "GIF"),
        file(Image.fromarray(NOISE), "TIFF"),
        b"\x80\x04\x95\x0e\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",  # a pickle
    ],
)
def test_what_is_no_whole_jpeg_or_png_is_refused(data):
    with pytest.raises(DataError, match=r"a must be a whole JPEG or PNG, got \d+ bytes"):
        decode_picture(data, key="a", max_pixels=1000)


def test_a_large_picture_is_refused_by_its_header():
    """A file of a few kilobytes that would be 120 MB of pixels; its body is cut off, so nothing can have read it."""
    bomb = file(Image.new("RGB", (8000, 5000)), "PNG")[:200]
    with pytest.raises(DataError, match="a must have at most 1000000 pixels, got 5000 x 8000"):
        decode_picture(bomb, key="a", max_pixels=1_000_000)


def test_a_picture_that_pillow_calls_a_bomb_is_refused():
    header = bytearray(file(Image.new("RGB", (8, 8)), "PNG"))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    import zlib

    header[29:33] = zlib.crc32(bytes(header[12:29])).to_bytes(4, "big")
    with pytest.raises(DataError, match="a must be a whole JPEG or PNG"):
        decode_picture(bytes(header), key="a", max_pixels=10**12)
