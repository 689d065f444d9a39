"""Single images that lie in a data set as JPEG or PNG bytes."""

import io
from typing import Final

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image

from vla_kit.errors import DataError

__all__ = ["decode_image", "encoded_size"]

_JPEG: Final = b"\xff\xd8\xff"
_JPEG_END: Final = b"\xff\xd9"
_PNG: Final = b"\x89PNG\r\n"


def encoded_size(data: bytes) -> tuple[int, int] | None:
    """Height and width of a colour or grey image of 8 bits; None where the bytes are something else.

    Args:
        data: The beginning of the bytes that may be an image, header included.

    Examples:
        >>> encoded_size(b"not an image") is None
        True
    """
    if not data.startswith((_JPEG, _PNG)):
        return None
    try:
        with Image.open(io.BytesIO(data)) as image:
            return (image.height, image.width) if image.mode in ("RGB", "RGBA", "L") else None
    except (OSError, SyntaxError):
        return None


def decode_image(data: bytes, *, where: str) -> UInt8[ndarray, "height image_width 3"]:
    """Decode JPEG or PNG bytes; zeros after their end, as fixed-size storage leaves them, are ignored.

    Args:
        data: The bytes.
        where: Place of the image, for messages.

    Raises:
        DataError: If the bytes are no image or the image is incomplete. A JPEG that zeros cut short, which decoders
            fill with grey without a word, counts as incomplete.

    Examples:
        >>> file = io.BytesIO()
        >>> Image.new("RGB", (4, 2), (250, 0, 0)).save(file, format="PNG")
        >>> decode_image(file.getvalue() + bytes(9), where="test").shape
        (2, 4, 3)
    """
    data = data.rstrip(b"\0") if data.startswith(_JPEG) else data
    if data.startswith(_JPEG) and _JPEG_END not in data[-64:]:
        raise DataError(f"{where} must be a whole image, got a truncated JPEG. Drop the episode or record it again.")
    try:
        with Image.open(io.BytesIO(data)) as image:
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{where} must be a readable image, got: {error}. Drop the episode or record it again."
        ) from error
