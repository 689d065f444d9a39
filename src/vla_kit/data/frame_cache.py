"""Decoded frames on local disk, so that a frame is decoded once and not in every epoch."""

import json
import os
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.scattered import images_at
from vla_kit.data.source import CameraInfo, ColumnInfo, EpisodeSource
from vla_kit.errors import DataError, SettingError

__all__ = ["CachedSource"]

_FORMAT: Final = "vla-kit frames 1"
_PAGE: Final = 4096  # the header fills one, and frames begin at a multiple
_BLOCK_BYTES: Final = 64 << 20  # decoded and written in one go
_PRESENT: Final = 1 << 32  # above the 32 bits of a checksum, so that no mark of a frame is 0


class CachedSource:
    """A source whose frames are kept on disk as they are decoded; satisfies `EpisodeSource`.

    Each frame takes height * width * 3 bytes: 20,000 frames of 96x96 0.55 GB, of 640x480 18 GB. The first touch of a
    frame decodes and keeps the frames around it too, up to 64 MiB of one episode. Everything else goes to `source`.

    The folder holds a sparse file per data set and camera, under the fingerprint of the data set, so that several
    data sets, processes and runs may share it, and a changed data set is decoded anew. A frame counts as kept once
    its checksum is written, which happens last; several processes may fill the same file, and one that is killed
    leaves nothing half. A frame that does not fit its checksum is decoded again, with a warning. Nothing is ever
    deleted: remove the folder when it is no longer needed. Use a local disk, not a network file system.

    Args:
        source: The data set.
        folder: Where frames are kept; made where it does not exist.
        max_gigabytes: Largest size of the folder [10^9 bytes]. Frames that no longer fit are decoded whenever they
            are asked for: shuffled access would only throw out what it needs next. As large as the disk where None.

    Raises:
        SettingError: If `folder` cannot be made or, later, written, or `max_gigabytes` is not above 0.
        DataError: (on `images`) As `source` does, and if its frames differ in size, or a file of the folder is none
            of ours.

    Examples:
        >>> import tempfile
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> pictures = np.zeros((5, 8, 8, 3), dtype=np.uint8)
        >>> source = MemorySource([MemoryEpisode(columns={"action": np.ones((5, 1))}, cameras={"top": pictures})])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     CachedSource(source, folder).images(0, "top", [4, 0]).shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(self, source: EpisodeSource, folder: str | Path, *, max_gigabytes: float | None = None) -> None:
        if max_gigabytes is not None and not max_gigabytes > 0:
            raise SettingError(f"max_gigabytes must be above 0, got {max_gigabytes}. Leave it None for no limit.")
        self._source = source
        self._folder = Path(folder)
        self._max_bytes = None if max_gigabytes is None else max_gigabytes * 1e9
        self._full = False
        self._starts = np.concatenate([[0], np.cumsum(source.lengths)]).tolist()
        self._files: dict[str, _FrameFile] = {}
        self._own_folder = self._folder / source.fingerprint
        with _writing(self._own_folder):
            self._own_folder.mkdir(parents=True, exist_ok=True)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._source.name

    @property
    def location(self) -> str:
        """Where the data set lies."""
        return self._source.location

    @property
    def rate_hz(self) -> float | None:
        """Frames per second."""
        return self._source.rate_hz

    @property
    def columns(self) -> Mapping[str, ColumnInfo]:
        """Columns of numbers by key."""
        return self._source.columns

    @property
    def cameras(self) -> Mapping[str, CameraInfo]:
        """Cameras by key."""
        return self._source.cameras

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode."""
        return self._source.lengths

    @property
    def fingerprint(self) -> str:
        """Digest of the data set."""
        return self._source.fingerprint

    def episode(self, index: int) -> EpisodeInfo:
        """What the metadata knows of an episode."""
        return self._source.episode(index)

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot was told at a frame."""
        return self._source.instruction_at(index, frame)

    def column(self, index: int, key: str) -> ndarray:
        """A column of an episode."""
        return self._source.column(index, key)

    def images(self, index: int, key: str, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames of one camera of an episode, from the disk where they are kept."""
        places = [(index, int(frame)) for frame in indices]
        if not places or not self._exist(key, places):
            return self._source.images(index, key, indices)  # whose error says what is wrong
        return self._read(key, places)

    def images_at(self, key: str, places: Sequence[tuple[int, int]]) -> list[UInt8[Tensor, "3 height image_width"]]:
        """RGB frames of one camera at `(episode, frame)`."""
        if not places or not self._exist(key, places):
            return images_at(self._source, key, places)
        return list(self._read(key, places))

    def _exist(self, key: str, places: Sequence[tuple[int, int]]) -> bool:
        episodes = len(self._starts) - 1
        return key in self.cameras and all(
            0 <= index < episodes and 0 <= frame < self._starts[index + 1] - self._starts[index]
            for index, frame in places
        )

    def _read(self, key: str, places: Sequence[tuple[int, int]]) -> Tensor:
        file = self._file(key, places[0][0])
        frames = torch.empty((len(places), *file.shape), dtype=torch.uint8)  # colours last, as decoders give them
        missing = file.read([self._starts[index] + frame for index, frame in places], frames.numpy())
        lacking: dict[int, set[int]] = {}
        for position in missing:
            lacking.setdefault(places[position][0], set()).add(places[position][1])
        decoded = {index: self._fill(index, key, file, sorted(wanted)) for index, wanted in lacking.items()}
        for position in missing:
            index, frame = places[position]
            frames[position] = decoded[index][frame]
        return frames.permute(0, 3, 1, 2)

    def _file(self, key: str, index: int) -> "_FrameFile":
        if key not in self._files:
            info = self.cameras[key]
            path = self._own_folder / f"{quote(key, safe='')}.frames"
            size = (info.height, info.width) if info.height and info.width else _kept_size(path)
            height, width = size or self._source.images(index, key, [0]).shape[2:]
            self._files[key] = _FrameFile(path, height=height, width=width, num_frames=self._starts[-1])
        return self._files[key]

    def _fill(self, index: int, key: str, file: "_FrameFile", frames: Sequence[int]) -> dict[int, Tensor]:
        """Decode some frames, colours last, and keep them with their neighbours."""
        length = self._starts[index + 1] - self._starts[index]
        block = max(1, _BLOCK_BYTES // file.frame_bytes)
        decoded: dict[int, Tensor] = {}
        for number in sorted({frame // block for frame in frames}):
            around: Sequence[int] = range(number * block, min(length, (number + 1) * block))
            asked = [frame for frame in frames if frame in around]
            fits = self._fits(len(around) * file.frame_bytes)
            try:
                pixels = self._source.images(index, key, around if fits else asked)
            except DataError:
                if not fits:
                    raise
                around = asked  # a broken neighbour is no reason to refuse them
                pixels = self._source.images(index, key, asked)
            if not fits:
                around = asked
            pixels = pixels.permute(0, 2, 3, 1).contiguous()
            if tuple(pixels.shape[1:]) != file.shape:
                raise DataError(
                    f"{key} must have one image size in all of {self.location} for a frame cache, got "
                    f"{file.shape[:2]} and {tuple(pixels.shape[1:3])} in episode {index}. Read it without the cache."
                )
            if fits:
                first = self._starts[index]
                with _writing(file.path):
                    file.write([first + frame for frame in around], pixels.numpy())
            kept = set(asked)
            decoded.update((frame, image) for frame, image in zip(around, pixels, strict=True) if frame in kept)
        return decoded

    def _fits(self, size: int) -> bool:
        if self._max_bytes is None or self._full:
            return not self._full
        used = sum(path.stat().st_blocks * 512 for path in self._folder.glob("*/*.frames"))
        if used + size > self._max_bytes:
            self._full = True
            warnings.warn(
                f"{self._folder} holds {used / 1e9:.3g} GB of frames, and max_gigabytes is "
                f"{self._max_bytes / 1e9:.3g}. Frames of {self.name} that are not there yet are decoded every time.",
                stacklevel=5,
            )
        return not self._full


class _FrameFile:
    """One camera: a header, a mark per frame (0, or its checksum), then the frames. Opened for each call."""

    def __init__(self, path: Path, *, height: int, width: int, num_frames: int) -> None:
        self.path = path
        self.shape = (int(height), int(width), 3)
        self.frame_bytes = 3 * self.shape[0] * self.shape[1]
        described = {"format": _FORMAT, "height": self.shape[0], "width": self.shape[1], "frames": num_frames}
        self._header = json.dumps(described).encode().ljust(_PAGE)
        self._begin = _PAGE + -(-8 * num_frames // _PAGE) * _PAGE
        self._size = self._begin + num_frames * self.frame_bytes
        self._checked = False

    def read(self, places: Sequence[int], frames: UInt8[ndarray, "image height image_width 3"]) -> list[int]:
        """Fill `frames` and return the positions of those that are not kept."""
        try:
            file = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return list(range(len(places)))
        try:
            if not self._checked:
                self._check(os.pread(file, _PAGE, 0))
            if hasattr(os, "posix_fadvise"):  # where the disk is asked for all of them at once, it takes half as long
                for place in places:
                    offset = self._begin + place * self.frame_bytes
                    os.posix_fadvise(file, offset, self.frame_bytes, os.POSIX_FADV_WILLNEED)
            missing: list[int] = []
            for position, place in enumerate(places):
                mark = int.from_bytes(os.pread(file, 8, _PAGE + 8 * place), "little")
                if mark == 0:
                    missing.append(position)
                    continue
                image = frames[position]
                read = os.preadv(file, [image], self._begin + place * self.frame_bytes)
                if read < self.frame_bytes or _mark(image) != mark:
                    warnings.warn(
                        f"{self.path} must hold frames as they were written, got frame {place} with other bytes. "
                        "It is decoded again; check the disk if this goes on.",
                        stacklevel=4,
                    )
                    missing.append(position)
            return missing
        finally:
            os.close(file)

    def write(self, places: Sequence[int], frames: UInt8[ndarray, "image height image_width 3"]) -> None:
        """Keep frames. What other processes write there at the same time is the same."""
        file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if not self._check(os.pread(file, _PAGE, 0)) or os.fstat(file).st_size < self._size:
                os.ftruncate(file, self._size)
                _write_all(file, self._header, 0)
            for start, stop in _runs(places):
                _write_all(file, frames[start:stop].data, self._begin + places[start] * self.frame_bytes)
                marks = np.array([_mark(image) for image in frames[start:stop]], dtype="<u8")
                _write_all(file, marks.data, _PAGE + 8 * places[start])
        finally:
            os.close(file)

    def _check(self, header: bytes) -> bool:
        """Whether the file has begun; raises where it is another file."""
        self._checked = header == self._header
        if not self._checked and header.strip(b"\0"):
            raise DataError(
                f"{self.path} must begin with {self._header.strip().decode()}, got {header[:80].strip()!r}. "
                "Delete the file."
            )
        return self._checked


def _kept_size(path: Path) -> tuple[int, int] | None:
    """Height and width that a file says its frames have."""
    try:
        with path.open("rb") as file:
            described = json.loads(file.read(_PAGE))
        size = int(described["height"]), int(described["width"])
        return size if min(size) > 0 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mark(image: ndarray) -> int:
    return zlib.crc32(image.data) | _PRESENT


def _runs(places: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Positions at which places follow each other."""
    start = 0
    for position in range(1, len(places) + 1):
        if position == len(places) or places[position] != places[position - 1] + 1:
            yield start, position
            start = position


def _write_all(file: int, data: bytes | memoryview, offset: int) -> None:
    left = memoryview(data).cast("B")
    while left:
        written = os.pwrite(file, left, offset)
        left, offset = left[written:], offset + written


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise SettingError(
            f"folder must be on a disk that can be written and has room, got {path}: {error.strerror}. Choose another "
            "folder, free some space or set max_gigabytes."
        ) from error
