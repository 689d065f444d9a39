"""Single JPEG and PNG images out of bytes."""

import io

import numpy as np
import pytest
from PIL import Image

from vla_kit.data.readers._encoded_image import decode_image, encoded_size
from vla_kit.errors import DataError


def encode(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format=kind, quality=95)
    return file.getvalue()


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size=(16, 24, 3), dtype=np.uint8)


def test_png_is_exact_and_jpeg_close(pixels):
    assert np.array_equal(decode_image(encode(pixels, "PNG"), where="x"), pixels)
    flat = np.full((16, 24, 3), (200, 60, 20), dtype=np.uint8)
    assert np.abs(decode_image(encode(flat, "JPEG"), where="x").astype(int) - flat).max() <= 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_zeros_after_the_end_do_not_matter(pixels, kind):
    data = encode(pixels, kind)
    assert np.array_equal(decode_image(data + bytes(500), where="x"), decode_image(data, where="x"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_truncated_image_whose_rest_is_zeros_is_refused(pixels, kind):
    data = encode(pixels, kind)
    cut = data[: len(data) // 2]
    for broken in (cut, cut + bytes(len(data) - len(cut))):
        with pytest.raises(DataError, match=r"^a\.hdf5 must be a (whole|readable) image"):
            decode_image(broken, where="a.hdf5")


def test_other_bytes_are_no_image():
    assert encoded_size(b"\xff\xd8\xff but no more") is None
    with pytest.raises(DataError, match="must be a readable image"):
        decode_image(b"GIF?", where="a.hdf5")


def test_size_is_height_and_width_and_depth_is_refused(pixels):
    assert encoded_size(encode(pixels, "PNG")) == (16, 24)
    assert encoded_size(encode(pixels.astype(np.uint16)[..., 0] * 200, "PNG")) is None
