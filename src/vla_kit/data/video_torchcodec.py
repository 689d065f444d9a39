"""Video decoding with torchcodec: the faster decoder, where it is installed with ffmpeg."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

from jaxtyping import UInt8
from torch import Tensor

from vla_kit.data._rate import check_rate
from vla_kit.data.video import check_times
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


_SAME_TIME: Final = 0.02  # share of a frame that rounding of the container's clock may take


class TorchcodecDecoder:
    """Random access to the frames of one video file; satisfies `VideoDecoder`.

    An index means the index-th frame shown. To know that for sure a decoder reads the file from end to end when it
    opens, which takes seconds for long videos. This one believes a header whose frames fill its duration, compares the
    time of every frame with the time that a constant rate gives it, and reads the whole file only where they differ.

    Args:
        path: Video file.
        rate_hz: Frames per second that the file must keep, see `open_video`.

    Raises:
        DataError: If the file is missing, truncated or no video.
        SettingError: If `rate_hz` is not above 0.
    """

    def __init__(self, path: str | Path, *, rate_hz: float | None = None) -> None:
        check_rate(rate_hz)
        self._path, self._rate_hz = Path(path), rate_hz
        self._decoder = self._open("approximate")
        header = self._decoder.metadata
        self._grid_hz = float(header.average_fps_from_header or 0.0)
        gaps = (header.duration_seconds_from_header or 0.0) * self._grid_hz - (header.num_frames_from_header or 0)
        self._exact = not self._grid_hz or abs(gaps) > 0.5 or bool(header.begin_stream_seconds_from_header)
        if self._exact:
            self._decoder = self._open("exact")
        self._length = len(self._decoder)

    def __len__(self) -> int:
        return self._length

    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames at `indices`, in that order.

        Raises:
            DataError: If an index lies outside the file, or a frame cannot be decoded or is not shown when it is due.
        """
        wanted = [int(index) for index in indices]
        data, times = self._decode(wanted)
        if not self._exact and not self._on_grid(wanted, times):
            self._decoder, self._exact = self._open("exact"), True
            self._length = len(self._decoder)
            data, times = self._decode(wanted)
        if self._rate_hz is not None:
            first = self._decoder.metadata.begin_stream_seconds or 0.0
            check_times(self._path, wanted, [time - first for time in times], rate_hz=self._rate_hz)
        return data

    def _open(self, mode: Literal["approximate", "exact"]) -> _Decoder:
        try:
            return _Decoder(str(self._path), dimension_order="NCHW", seek_mode=mode, num_ffmpeg_threads=1)
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(
                f"path must be a readable video, got {self._path}: {_first_line(error)}. "
                "The file is missing or truncated; fetch or record it again."
            ) from error

    def _decode(self, wanted: list[int]) -> tuple[Tensor, list[float]]:
        for index in wanted:
            if not 0 <= index < self._length:
                raise DataError(
                    f"indices must lie in [0, {self._length}) in {self._path}, got {index}. "
                    "The video is shorter than its metadata says; fetch or record it again."
                )
        try:
            batch = self._decoder.get_frames_at(indices=wanted)
        except (RuntimeError, IndexError) as error:
            raise DataError(
                f"path must be a readable video, got {self._path}: {_first_line(error)}. Fetch or record it again."
            ) from error
        return batch.data, batch.pts_seconds.tolist()

    def _on_grid(self, wanted: list[int], times: list[float]) -> bool:
        return all(abs(time * self._grid_hz - index) <= _SAME_TIME for index, time in zip(wanted, times, strict=True))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]
