"""Images and videos of conversations, out of whatever their records name."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vla_kit.data.conversations._sampling import check_sampling
from vla_kit.data.conversations.record import PictureSource
from vla_kit.data.video import open_video
from vla_kit.errors import DataError
from vla_kit.protocols import Picture

__all__ = ["read_picture", "sampled_frames"]


def read_picture(
    picture: PictureSource, *, root: Path, where: str, rate_hz: float = 2.0, max_frames: int = 16
) -> Picture:
    """Decode an image, or the frames of a video.

    Args:
        picture: What a record names.
        root: Folder that paths are relative to.
        where: Place of the record, for messages.
        rate_hz: Frames per second to take of a video file that does not say so itself.
        max_frames: Most frames of a video file; a longer video is seen more sparsely, a list of images as it is.

    Returns:
        Pixels with tags.

    Raises:
        SettingError: If `rate_hz` or `max_frames` is out of range.
        DataError: If something is missing or cannot be decoded, or a list of images lacks its rate or changes size.
    """
    check_sampling(rate_hz=rate_hz, max_frames=max_frames)
    tags: dict[str, Any] = {"view": picture.view, "instant": picture.instant}
    if picture.kind == "image":
        return Picture(pixels=_image(picture.source, root, where), **tags)
    if isinstance(picture.source, Sequence) and not isinstance(picture.source, str | bytes):
        if picture.rate_hz is None:
            raise DataError(
                f"{where} must say how many frames of a video in images are a second, got no rate_hz. Add it to the "
                "part."
            )
        frames = [_image(one, root, where) for one in picture.source]
        if len({frame.shape for frame in frames}) != 1:
            sizes = sorted({tuple(frame.shape[1:]) for frame in frames})
            raise DataError(f"{where} must have frames of one size in a video, got {sizes}. Resize them.")
        return Picture(pixels=torch.stack(frames), rate_hz=float(picture.rate_hz), **tags)
    path = _path(picture.source, root, where)
    indices, taken_hz = sampled_frames(
        len(decoder := open_video(path)),
        recorded_hz=_recorded_hz(path),
        rate_hz=picture.rate_hz or rate_hz,
        most=max_frames,
    )
    return Picture(pixels=decoder.frames(indices), rate_hz=taken_hz, **tags)


def sampled_frames(count: int, *, recorded_hz: float, rate_hz: float, most: int) -> tuple[list[int], float]:
    """Frames of a video to look at, evenly spread from the first.

    Args:
        count: Frames of the video.
        recorded_hz: Frames per second of the video.
        rate_hz: Frames per second that are wanted; all frames of a slower video.
        most: Most frames.

    Returns:
        Frames, and how many of them are a second.

    Examples:
        >>> sampled_frames(10, recorded_hz=4, rate_hz=2, most=16)
        ([0, 2, 4, 6, 8], 2.0)
        >>> sampled_frames(10, recorded_hz=4, rate_hz=2, most=4)
        ([0, 3, 6, 9], 1.3333333333333333)
    """
    step = max(1.0, recorded_hz / rate_hz)
    wanted = int((count - 1) / step) + 1
    if wanted > most:
        wanted, step = most, (count - 1) / max(1, most - 1)
    return [int(place * step + 0.5) for place in range(wanted)], recorded_hz / step


def _image(source: Any, root: Path, where: str) -> Tensor:  # noqa: ANN401 (what a record holds)
    if isinstance(source, Mapping):  # an image column of `datasets`
        source = source["bytes"] if source.get("bytes") is not None else source.get("path")
    try:
        if isinstance(source, Image.Image):
            return _pixels(source)
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else _path(source, root, where)) as image:
            return _pixels(image)
    except DataError:
        raise
    except (OSError, EOFError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        shown = f"{len(source)} bytes" if isinstance(source, bytes) else source
        raise DataError(f"{where} must have readable images, got {shown}: {error}. Leave the record out.") from error


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()


def _path(source: Any, root: Path, where: str) -> Path:  # noqa: ANN401 (what a record holds)
    if not isinstance(source, str) or not source:
        raise DataError(f"{where} must name pictures by path or hold their bytes, got {source!r}. Correct the record.")
    if "://" in source and not source.startswith("file://"):
        raise DataError(f"{where} must name pictures on this machine, got {source!r}. Fetch them first.")
    path = root / source.removeprefix("file://")
    if not path.is_file():
        raise DataError(f"{where} must name pictures that exist, got {path}. Check the folder of the pictures.")
    return path


def _recorded_hz(path: Path) -> float:
    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
    if not rate:
        raise DataError(f"{path} must say how many frames it has a second, got none. Convert the video.")
    return float(rate)
