"""The check and the resize that every backbone does to a view."""

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from vla_kit.errors import DtypeError, ShapeError

__all__ = ["view_image"]


def view_image(
    tag: str, image: UInt8[Tensor, "*frame 3 height image_width"], image_size: int | None
) -> UInt8[Tensor, "*frame 3 height image_width"]:
    """Check a view and bring it to the size of the model.

    Args:
        tag: Name of the view, for the error.
        image: RGB, uint8: one image [3, height, width], or the frames of a history [frame, 3, height, width].
        image_size: Side of the square result [pixel]; `None` leaves the size alone.

    Returns:
        uint8 image or frames; the argument itself where the size fits. Resizing is bicubic with antialiasing and does
        not keep the aspect ratio.

    Raises:
        DtypeError: If the image is not uint8.
        ShapeError: If its shape is neither `(3, height, width)` nor `(frame, 3, height, width)`.

    Examples:
        >>> view_image("ego", torch.full((3, 48, 64), 7, dtype=torch.uint8), 32).shape
        torch.Size([3, 32, 32])
    """
    if image.dtype != torch.uint8:
        raise DtypeError(
            f"views must be uint8 images in [0, 255], got {image.dtype} for {tag!r}. "
            "Convert with (image * 255).round().to(torch.uint8)."
        )
    if image.ndim not in (3, 4) or image.shape[-3] != 3 or 0 in image.shape:
        raise ShapeError(
            f"views must have shape (3, height, width) or (frame, 3, height, width), got {tuple(image.shape)} for "
            f"{tag!r}. Move channels before height and width, and leave out a view without images."
        )
    if image_size is None or image.shape[-2:] == (image_size, image_size):
        return image
    stack = image if image.ndim == 4 else image[None]
    resized: Tensor = interpolate(stack, size=(image_size, image_size), mode="bicubic", antialias=True)
    return resized if image.ndim == 4 else resized[0]
