"""Frames out of a video file by their index, through whichever decoder is installed."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Literal, Protocol

from jaxtyping import UInt8
from torch import Tensor

from vla_kit.errors import MissingExtraError, SettingError

__all__ = ["VideoDecoder", "open_video"]


class VideoDecoder(Protocol):
    """One open video file."""

    def __len__(self) -> int:
        """Frames in the file."""
        ...

    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames at `indices`, in that order, repeats allowed."""
        ...


def open_video(path: str | Path, *, backend: Literal["auto", "torchcodec", "pyav"] = "auto") -> VideoDecoder:
    """Open a video for random access.

    `auto` takes torchcodec where it imports (it needs the shared libraries of ffmpeg) and PyAV elsewhere; PyAV is
    always installed and brings its own ffmpeg. Their pixels agree to rounding of the colour conversion.

    Args:
        path: Video file.
        backend: Decoder to use.

    Raises:
        SettingError: If `backend` is unknown.
        DataError: If the file is missing, truncated or no video.
        MissingExtraError: If `torchcodec` is asked for and does not import.

    Examples:
        >>> open_video("missing.mp4", backend="pyav")
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: path must be a readable video, got missing.mp4: ...
    """
    if backend not in ("auto", "torchcodec", "pyav"):
        raise SettingError(f"backend must be one of 'auto', 'torchcodec', 'pyav', got {backend!r}. Use 'auto'.")
    if backend == "torchcodec" or (backend == "auto" and _has_torchcodec()):
        from vla_kit.data.video_torchcodec import TorchcodecDecoder

        return TorchcodecDecoder(path)
    from vla_kit.data.video_pyav import PyAVDecoder

    return PyAVDecoder(path)


@cache
def _has_torchcodec() -> bool:
    try:
        import vla_kit.data.video_torchcodec  # noqa: F401 (does it import?)
    except MissingExtraError:
        return False
    return True
