"""Video decoding with torchcodec: the faster decoder, where it is installed with ffmpeg."""

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import UInt8
from torch import Tensor

from vla_kit.errors import DataError, MissingExtraError

try:
    from torchcodec.decoders import VideoDecoder as _Decoder
except (ImportError, OSError, RuntimeError) as error:  # RuntimeError: installed, but no ffmpeg libraries found
    raise MissingExtraError("torchcodec (or the ffmpeg that it loads)", extra="video") from error

try:
    _Decoder(b"no video")  # newer releases import without ffmpeg and fail here
except (OSError, RuntimeError, ValueError) as error:
    if "Could not load libtorchcodec" in str(error):
        raise MissingExtraError("torchcodec (or the ffmpeg that it loads)", extra="video") from error

__all__ = ["TorchcodecDecoder"]


class TorchcodecDecoder:
    """Random access to the frames of one video file; satisfies `VideoDecoder`.

    Args:
        path: Video file.

    Raises:
        DataError: If the file is missing, truncated or no video.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            self._decoder = _Decoder(str(path), dimension_order="NCHW", seek_mode="exact", num_ffmpeg_threads=1)
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"path must be a readable video, got {path}: {_first_line(error)}. "
                "The file is missing or truncated; fetch or record it again."
            ) from error

    def __len__(self) -> int:
        return len(self._decoder)

    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames at `indices`, in that order.

        Raises:
            DataError: If an index lies outside the file or a frame cannot be decoded.
        """
        wanted = [int(index) for index in indices]
        outside = [index for index in wanted if not 0 <= index < len(self)]
        if outside:
            raise DataError(
                f"indices must lie in [0, {len(self)}) in {self._path}, got {outside[0]}. "
                "The video is shorter than its metadata says; fetch or record it again."
            )
        try:
            data: Tensor = self._decoder.get_frames_at(indices=wanted).data
        except (RuntimeError, IndexError) as error:
            raise DataError(
                f"path must be a readable video, got {self._path}: {_first_line(error)}. Fetch or record it again."
            ) from error
        return data


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
