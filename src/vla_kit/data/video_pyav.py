"""Video decoding and encoding with PyAV, whose wheels carry ffmpeg."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import numpy as np
import torch
from jaxtyping import UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data._rate import check_rate
from vla_kit.data.video import check_times
from vla_kit.errors import DataError, SettingError, ShapeError

__all__ = ["PyAVDecoder", "PyAVEncoder"]

try:  # newer releases start scaling threads on their own: slow for small frames, and a forked child waits for them
    av.VideoFrame(2, 2, "rgb24").reformat(threads=1)
    _SCALING: dict[str, Any] = {"threads": 1}
except TypeError:
    _SCALING = {}

_SEEK_GAP = 16  # frames that are cheaper to decode and drop than to jump over


class PyAVDecoder:
    """Random access to the frames of one video file; satisfies `VideoDecoder`.

    Opening reads the packet headers once, so that an index means exactly the index-th frame shown. Frames that
    follow each other are decoded in one go.

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
        try:
            self._container: Any = av.open(str(path))
            self._stream: Any = self._container.streams.video[0]
            self._stream.codec_context.thread_count = 1  # data workers are the parallelism
            packets = [packet for packet in self._container.demux(self._stream) if packet.pts is not None]
        except (av.FFmpegError, OSError, IndexError) as error:
            raise DataError(
                f"path must be a readable video, got {path}: {error}. "
                "The file is missing or truncated; fetch or record it again."
            ) from error
        self._times: list[int] = sorted(packet.pts for packet in packets)
        keys = sorted(packet.pts for packet in packets if packet.is_keyframe)
        self._keys: list[int] = [self._index_of(key) for key in keys]
        self._position = len(self._times)  # index of the next frame that self._decoding would give
        self._decoding: Iterator[Any] = iter(())

    def __len__(self) -> int:
        return len(self._times)

    def frames(self, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames at `indices`, in that order.

        Raises:
            DataError: If an index lies outside the file, or a frame cannot be decoded or is not shown when it is due.
        """
        wanted = [int(index) for index in indices]
        outside = [index for index in wanted if not 0 <= index < len(self)]
        if outside:
            raise DataError(
                f"indices must lie in [0, {len(self)}) in {self._path}, got {outside[0]}. "
                "The video is shorter than its metadata says; fetch or record it again."
            )
        if self._rate_hz is not None:
            first, tick = self._times[0], float(self._stream.time_base)
            times = [(self._times[index] - first) * tick for index in wanted]
            check_times(self._path, wanted, times, rate_hz=self._rate_hz)
        decoded: dict[int, ndarray] = {}
        try:
            for index in sorted(set(wanted)):
                decoded[index] = self._frame(index)
        except (av.FFmpegError, OSError, StopIteration) as error:
            self._decoding, self._position = iter(()), len(self)
            raise DataError(
                f"path must be a readable video, got {self._path}: frame {index} cannot be decoded ({error}). "
                "Fetch or record it again."
            ) from error
        if not wanted:
            return torch.zeros(0, 3, self._stream.height, self._stream.width, dtype=torch.uint8)
        pixels = np.stack([decoded[index] for index in wanted])
        return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()

    def _index_of(self, time: int) -> int:
        return bisect_right(self._times, time) - 1

    def _frame(self, index: int) -> ndarray:
        key = self._keys[max(0, bisect_right(self._keys, index) - 1)] if self._keys else 0
        if index < self._position or key > self._position + _SEEK_GAP:
            self._container.seek(self._times[key], stream=self._stream, backward=True)
            self._decoding = iter(self._container.decode(self._stream))
            self._position = 0
        while True:
            frame = next(self._decoding)
            current = self._index_of(frame.pts)
            self._position = current + 1
            if current == index:
                pixels: ndarray = frame.to_ndarray(format="rgb24", **_SCALING)
                return pixels
            if current > index:
                raise DataError(
                    f"frame {index} must be decodable in {self._path}, got frame {current} instead. "
                    "The file is damaged; fetch or record it again."
                )


class PyAVEncoder:
    """Writes frames to one h264 file, 4:2:0, with close key frames for cheap random access.

    The file grows under a hidden name beside `path` and moves there when `close` ends well; `abort`, or an exception
    inside the `with` block, removes it.

    Args:
        path: File to write or replace; the suffix decides the container.
        rate_hz: Frames per second.
        height: Image rows, even.
        width: Image columns, even.
        crf: Quality, 0 (lossless but for colour) to 51 (worst); 18 is close to visually lossless.
        keyframe_interval: Frames from one key frame to the next.

    Raises:
        SettingError: If `height` or `width` is odd, which 4:2:0 cannot hold, or a number is out of range.
        DataError: If there is no such folder, or the suffix is none of a video.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        rate_hz: float,
        height: int,
        width: int,
        crf: int = 18,
        keyframe_interval: int = 2,
    ) -> None:
        check_rate(rate_hz)
        if height % 2 or width % 2 or min(height, width) < 2:
            raise SettingError(
                f"height and width must be even and at least 2 for a video, got ({height}, {width}). "
                'Resize the frames, or store them with "dtype": "image".'
            )
        if not 0 <= crf <= 51:
            raise SettingError(f"crf must lie in [0, 51], got {crf}. Use 18.")
        if keyframe_interval < 1:
            raise SettingError(f"keyframe_interval must be at least 1, got {keyframe_interval}. Use 2.")
        self.num_frames = 0
        self._shape = (height, width, 3)
        self._path = Path(path)
        self._partial = self._path.with_name(f".{self._path.stem}.partial{self._path.suffix}")
        if not self._path.parent.is_dir():
            raise DataError(f"path must lie in a folder that exists, got {path}. Make the folder first.")
        try:
            self._container: Any = av.open(str(self._partial), mode="w", options={"movflags": "faststart"})
        except (av.FFmpegError, OSError, ValueError) as error:
            raise DataError(
                f"path must be a video file that can be written, got {path}: {error}. Use the suffix .mp4."
            ) from error
        # With its macroblock tree, x264 writes other bytes for equal frames now and then; short groups do not need it.
        options = {"crf": str(crf), "g": str(keyframe_interval), "bf": "0", "x264-params": "mbtree=0"}
        rate = Fraction(rate_hz).limit_denominator(1_000_000)
        self._stream: Any = self._container.add_stream("libx264", rate=rate, options=options)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.codec_context.thread_count = 1
        self._time_base = 1 / rate

    @property
    def num_bytes(self) -> int:
        """Size of the file so far [byte]; the encoder holds the first frames back."""
        return self._partial.stat().st_size if self._partial.exists() else 0

    def write(self, frames: UInt8[ndarray, "image height image_width 3"]) -> None:
        """Append RGB frames.

        Raises:
            ShapeError: If a frame has another size than the encoder.
        """
        if tuple(frames.shape[1:]) != self._shape:
            raise ShapeError(
                f"frames must have the shape (image, {', '.join(map(str, self._shape))}), got {tuple(frames.shape)}. "
                "A video holds frames of one size."
            )
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = self.num_frames, self._time_base
            self.num_frames += 1
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Write what is pending and move the file to its place. There is no file without a frame."""
        try:
            self._container.mux(self._stream.encode(None))
            self._container.close()
            if self._partial.exists():
                os.replace(self._partial, self._path)
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Drop the video; what stood at its place stays."""
        self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> "PyAVEncoder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.abort()
