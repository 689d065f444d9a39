"""Frames of an episode for a model to look at."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from vla_kit.data.source import EpisodeSource
from vla_kit.errors import SettingError

__all__ = ["FrameChoice", "frames_to_see", "see", "to_picture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameChoice:
    """How densely and how large a model sees an episode.

    Args:
        sparse_hz: Frames per second of the first stage.
        dense_hz: Frames per second of the later stages.
        most: Frames at most; more are thinned out evenly.
        width: Width at most; larger pictures shrink [pixel].

    Raises:
        SettingError: If a number is not above 0 or not finite, or `most` is below 2.

    Examples:
        >>> FrameChoice().width
        512

    Source:
        FineVLA (arXiv 2605.27284, same group as Qwen-VLA): 4 and 1 frames per second, 512 pixels wide. Qwen-VLA speaks
        of video first and dense frames then, without numbers, so the sparse rate comes first here.
    """

    sparse_hz: float = 1.0
    dense_hz: float = 4.0
    most: int = 96
    width: int = 512

    def __post_init__(self) -> None:
        for name in ("sparse_hz", "dense_hz", "width"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingError(f"{name} must be above 0 and finite, got {getattr(self, name)}. Leave it out.")
        if self.most < 2:
            raise SettingError(f"most must be at least 2, got {self.most}. Raise it.")


def frames_to_see(length: int, *, recorded_hz: float, wanted_hz: float, most: int) -> list[int]:
    """Frames spread evenly over an episode, the first and the last among them.

    Args:
        length: Frames of the episode, at least 1.
        recorded_hz: Frames per second of the data set.
        wanted_hz: Frames per second to see.
        most: Frames at most.

    Examples:
        >>> frames_to_see(41, recorded_hz=20, wanted_hz=1, most=96)
        [0, 20, 40]
        >>> frames_to_see(41, recorded_hz=20, wanted_hz=100, most=5)
        [0, 10, 20, 30, 40]
    """
    count = min(length, most, max(2, round((length - 1) / recorded_hz * wanted_hz) + 1))
    return [int(frame) for frame in np.linspace(0, length - 1, count).round()]


def to_picture(pixels: UInt8[Tensor, "3 height image_width"], *, width: int) -> Image.Image:
    """A picture of a frame, shrunk where it is wider.

    Args:
        pixels: RGB frame.
        width: Width at most [pixel].

    Examples:
        >>> import torch
        >>> to_picture(torch.zeros(3, 480, 640, dtype=torch.uint8), width=320).size
        (320, 240)
    """
    picture = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    if picture.width > width:
        picture = picture.resize((width, max(1, round(picture.height * width / picture.width))))
    return picture


def see(
    source: EpisodeSource, index: int, camera: str, frames: list[int], *, recorded_hz: float, width: int, named: bool
) -> list[str | Image.Image]:
    """Pictures of some frames, each after its time.

    Args:
        source: Data set.
        index: Episode.
        camera: Key of the camera.
        frames: Frames.
        recorded_hz: Frames per second of the data set.
        width: Width at most [pixel].
        named: Whether the name of the camera stands before the time.

    Raises:
        DataError: If a frame cannot be read.
    """
    parts: list[str | Image.Image] = []
    for frame, pixels in zip(frames, source.images(index, camera, frames), strict=True):
        picture = to_picture(pixels, width=width)
        parts += [f"{f'{camera}, ' if named else ''}{frame / recorded_hz:.2f} s:", picture]
    return parts
