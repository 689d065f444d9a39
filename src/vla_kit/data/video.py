"""Frames out of a video file by their index, through whichever decoder is installed."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

from jaxtyping import UInt8
from torch import Tensor

from vla_kit.errors import DataError, MissingExtraError, SettingError

__all__ = ["VideoDecoder", "open_video"]


class VideoDecoder(Protocol):
    """One open video file."""

    def __len__(self) -> int:
        """Frames in the file."""
        ...

    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames at `indices`, in that order, repeats allowed."""
        ...


def open_video(
    path: str | Path,
    *,
    backend: Literal["auto", "torchcodec", "pyav"] = "auto",
    rate_hz: float | None = None,
) -> VideoDecoder:
    """Open a video for random access.

    `auto` takes torchcodec where it imports (it needs the shared libraries of ffmpeg) and PyAV elsewhere; PyAV is
    always installed and brings its own ffmpeg. Their pixels agree to rounding of the colour conversion.

    Args:
        path: Video file.
        backend: Decoder to use.
        rate_hz: Frames per second that the file must keep: a frame shown more than half a frame early or late raises
            when it is asked for. Anything goes where None.

    Raises:
        SettingError: If `backend` is unknown or `rate_hz` not above 0.
        DataError: If the file is missing, truncated or no video.
        MissingExtraError: If `torchcodec` is asked for and does not import.

    Examples:
        >>> open_video("missing.mp4", backend="pyav")
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: path must be a readable video, got missing.mp4: ...
    """
    check_backend(backend)
    if backend == "torchcodec" or (backend == "auto" and _has_torchcodec()):
        from vla_kit.data.video_torchcodec import TorchcodecDecoder

        return TorchcodecDecoder(path, rate_hz=rate_hz)
    from vla_kit.data.video_pyav import PyAVDecoder

    return PyAVDecoder(path, rate_hz=rate_hz)


def check_backend(backend: str, argument: str = "backend") -> None:
    """Refuse a decoder that nobody knows.

    Args:
        backend: Decoder to use.
        argument: What the caller calls it.

    Raises:
        SettingError: If it is unknown.
    """
    if backend not in ("auto", "torchcodec", "pyav"):
        raise SettingError(f"{argument} must be one of 'auto', 'torchcodec', 'pyav', got {backend!r}. Use 'auto'.")


def check_times(path: Path, indices: Sequence[int], times: Sequence[float], *, rate_hz: float) -> None:
    """Refuse frames that are not shown when a constant rate would show them.

    Args:
        path: Video file, for the message.
        indices: Frames.
        times: When each is shown, counted from the first frame of the file [s].
        rate_hz: Frames per second that the file must keep.

    Raises:
        DataError: If one is more than half a frame early or late.
    """
    for index, time in zip(indices, times, strict=True):
        if abs(time * rate_hz - index) > 0.5:
            raise DataError(
                f"{path} must show {rate_hz:g} frames per second, got frame {index} at {time:.3f} s instead of "
                f"{index / rate_hz:.3f} s. The video lost frames or has another rate; fetch or record it again."
            )


@cache
def _has_torchcodec() -> bool:
    try:
        import vla_kit.data.video_torchcodec  # noqa: F401 (does it import?)
    except MissingExtraError:
        return False
    return True
