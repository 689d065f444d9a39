"""Pictures that a client sends compressed."""

import io
from typing import Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from vla_kit.errors import DataError

__all__ = ["decode_picture"]

_FORMATS: Final = ("JPEG", "PNG")


def decode_picture(data: bytes, *, key: str, max_pixels: int) -> UInt8[ndarray, "height image_width 3"]:
    """Decode a JPEG or PNG from somebody who need not be trusted.

    The size is read from the header and refused before a pixel is decoded; other formats are not tried.

    Args:
        data: The file.
        key: Where the message has it, for error texts.
        max_pixels: Largest height times width.

    Returns:
        RGB in [0, 255]; grey becomes three equal colours, transparency is dropped.

    Raises:
        DataError: If the bytes are no whole JPEG or PNG, or the picture is too large.

    Examples:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (4, 2), (250, 0, 0)).save(file, format="PNG")
        >>> decode_picture(file.getvalue(), key="observation/image", max_pixels=8)[0, 0]
        array([250,   0,   0], dtype=uint8)
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            height, width = image.height, image.width
            pixels = np.array(image.convert("RGB")) if height * width <= max_pixels else None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"{key} must be a whole JPEG or PNG, got {len(data)} bytes that are not ({error}). "
            "Send the bytes of such a file, or the picture as an array."
        ) from error
    if pixels is None:
        raise DataError(f"{key} must have at most {max_pixels} pixels, got {height} x {width}. Send it smaller.")
    return pixels
