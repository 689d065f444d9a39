"""Episodes of a LeRobot set whose files are known: what the versions of the layout share."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data.readers._lerobot_tables import (
    ColumnRows,
    find_runs,
    open_parquet,
    packed,
    picture,
    read_rows,
    unpack,
    wrong_frames,
    wrong_times,
)
from vla_kit.data.readers._shared_cache import ARRAYS, DECODERS, TABLES, new_owner
from vla_kit.data.source import CameraInfo, ColumnInfo
from vla_kit.data.video import VideoDecoder, check_backend, open_video
from vla_kit.errors import DataError, SettingError

__all__ = ["LeRobotEpisodes", "LeRobotFiles"]

_CHECKS: Final = ("episode_index", "frame_index", "timestamp")
_VARIES, _TEXT = -1, -2  # instead of one task of a whole episode


class LeRobotFiles(Protocol):
    """Where the episodes of a data set lie. Files are numbered, since their paths take more memory."""

    root: Path
    lengths: Int[ndarray, " episode"]
    numbers: Int[ndarray, " episode"]
    """What the files call each episode."""

    def data_file(self, index: int) -> int:
        """Data file of an episode."""
        ...

    def data_members(self, file: int) -> Sequence[int]:
        """Episodes that a data file should hold."""
        ...

    def data_path(self, file: int) -> Path:
        """Path of a data file."""
        ...

    def video_place(self, key: str, index: int) -> tuple[int, int]:
        """Video file of an episode, and its first frame there."""
        ...

    def video_length(self, key: str, file: int) -> tuple[int, bool]:
        """Frames that a video file needs, and whether it must not hold more."""
        ...

    def video_path(self, key: str, file: int) -> Path:
        """Path of a video file."""
        ...


class LeRobotEpisodes:
    """Reads columns, images and sentences of episodes, and checks each data file when it is first read.

    Row `k` of an episode belongs to frame `k` of its video. That is only right where rows are complete and advance by
    one frame each, so a file's `episode_index`, `frame_index` and `timestamp` are checked before anything of it is
    given. An episode that fails raises; the others of its file can be read.

    Args:
        files: Where the episodes lie.
        columns: Columns of numbers.
        cameras: Cameras.
        rate_hz: Frames per second.
        tasks: `task_index` -> sentence.
        language: Column of task indices or texts that says what the robot was told; none where None.
        tasks_path: File that lists the tasks, for messages.
        video: Decoder of videos, see `open_video`.
        tolerance_s: How far a frame may be from its time after the last one [s].

    Raises:
        SettingError: If `video` is unknown, or `tolerance_s` negative or infinite.
    """

    def __init__(
        self,
        files: LeRobotFiles,
        *,
        columns: Mapping[str, ColumnInfo],
        cameras: Mapping[str, CameraInfo],
        rate_hz: float,
        tasks: Mapping[int, str],
        language: str | None,
        tasks_path: Path,
        video: Literal["auto", "torchcodec", "pyav"],
        tolerance_s: float,
    ) -> None:
        check_backend(video, "video")
        if not 0 <= tolerance_s < math.inf:
            raise SettingError(
                f"tolerance_s must be at least 0 and finite, got {tolerance_s}. Use 1e-4 s, as lerobot does."
            )
        self._files, self._columns, self._cameras = files, columns, cameras
        self._rate_hz, self._tolerance_s = rate_hz, tolerance_s
        self._tasks, self._language, self._tasks_path = tasks, language, tasks_path
        self._video: Literal["auto", "torchcodec", "pyav"] = video
        count = len(files.lengths)
        self._group = np.full(count, -1, dtype=np.int32)  # row group of the first frame; -1 until it is checked
        self._offset = np.zeros(count, dtype=np.int64)  # row there
        self._task = np.full(count, _VARIES, dtype=np.int32)
        self._late = np.zeros(count, dtype=bool)
        self._broken: dict[int, str] = {}
        self._owner = new_owner(self)

    def column(self, index: int, key: str) -> ndarray:
        """A column of an episode, `[step, size]`, as a copy.

        Raises:
            DataError: If there is no such column or the episode is broken there.
        """
        if key not in self._columns:
            raise DataError(f"{self._files.root} has no column {key!r}. Choose one of {sorted(self._columns)}.")
        file, length = self._admit(index), int(self._files.lengths[index])
        group, offset = int(self._group[index]), int(self._offset[index])
        parts, missing = [], length
        while missing:
            rows = self._numbers(file, key, group)
            part = rows.values[offset : offset + missing]
            if rows.broken is not None and rows.broken[offset : offset + missing].any():
                self._refuse(rows, key, index, offset=offset, frame=length - missing)
            parts.append(part)
            missing -= len(part)
            group, offset = group + 1, 0
        return parts[0].copy() if len(parts) == 1 else np.concatenate(parts)

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot was told at a frame; empty where there is no language.

        Raises:
            DataError: If there is no such frame, or its task is not listed.
        """
        self._check_frames(index, [frame])
        if self._language is None:
            return ""
        file = self._admit(index)
        task = int(self._task[index])
        if task < 0:
            told = self._told(file, index, frame)
            if isinstance(told, str):
                return told
            task = told
        if task not in self._tasks:
            raise DataError(
                f"{self._files.data_path(file)} must hold a {self._language} of {self._tasks_path}, got {task} in "
                f"episode {index}, frame {frame}. The tasks file is of another data set; fetch or write it again."
            )
        return self._tasks[task]

    def images(self, index: int, key: str, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames of one camera, in the order of `indices`.

        Raises:
            DataError: If there is no such camera or frame, or one cannot be decoded.
        """
        camera = self._cameras.get(key)
        if camera is None:
            raise DataError(f"{self._files.root} has no camera {key!r}. Choose one of {sorted(self._cameras)}.")
        wanted = self._check_frames(index, indices)
        file = self._admit(index)
        if not wanted:
            return torch.zeros(0, 3, camera.height or 0, camera.width or 0, dtype=torch.uint8)
        if not camera.video:
            return torch.stack([self._image(file, index, key, frame) for frame in wanted])
        try:
            video, first = self._files.video_place(key, index)
            decoder = self._decoder(key, video, index)
            return decoder.frames([first + frame for frame in wanted] if first else wanted)
        except DataError as error:
            raise DataError(f"{key} of episode {index}: {error}") from error

    def images_at(self, key: str, places: Sequence[tuple[int, int]]) -> list[UInt8[Tensor, "3 height image_width"]]:
        """RGB frames of several episodes, with one call of the decoder per video.

        Raises:
            DataError: If there is no such camera or frame, or one cannot be decoded.
        """
        camera = self._cameras.get(key)
        if camera is None or not camera.video:
            return [self.images(index, key, [frame])[0] for index, frame in places]
        images: list[Tensor | None] = [None] * len(places)
        members: dict[int, list[tuple[int, int, int]]] = {}
        try:
            for position, (index, frame) in enumerate(places):
                self._check_frames(index, (frame,))
                self._admit(index)
                video, first = self._files.video_place(key, index)
                members.setdefault(video, []).append((first + frame, position, index))
            for video, wanted in members.items():
                wanted.sort()
                decoder = self._decoder(key, video, wanted[0][2])
                decoded = decoder.frames([frame for frame, _, _ in wanted])
                for (_, position, _), image in zip(wanted, decoded, strict=True):
                    images[position] = image
        except DataError:  # one by one, so that the text names the episode that is broken
            return [self.images(index, key, [frame])[0] for index, frame in places]
        return images  # type: ignore[return-value] # every position was filled

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_owner"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._owner = new_owner(self)

    def _check_frames(self, index: int, indices: Sequence[int]) -> list[int]:
        lengths = self._files.lengths
        if not 0 <= index < len(lengths):
            raise DataError(
                f"index must be an episode of {self._files.root} in [0, {len(lengths)}), got {index}. Choose one there."
            )
        length, wanted = int(lengths[index]), [int(frame) for frame in indices]
        for frame in wanted:
            if not 0 <= frame < length:
                raise DataError(
                    f"frame must lie in [0, {length}) in episode {index} of {self._files.root}, got {frame}. "
                    "Choose one there."
                )
        return wanted

    # Checking

    def _admit(self, index: int) -> int:
        """Data file of an episode that was found to be whole."""
        if not 0 <= index < len(self._group):
            self._check_frames(index, ())
        file = self._files.data_file(index)
        if self._group[index] < 0:
            if index not in self._broken:
                self._check_file(file)
            if index in self._broken:
                raise DataError(self._broken[index])
        return file

    def _check_file(self, file: int) -> None:
        path = self._files.data_path(file)
        members = self._files.data_members(file)
        parquet, ends = self._table(file)
        checks = {key: self._whole(parquet, path, key) for key in _CHECKS if key in parquet.schema_arrow.names}
        runs = find_runs(checks["episode_index"].values[:, 0]) if "episode_index" in checks else None
        told = None
        if self._language in self._columns and self._language in parquet.schema_arrow.names:
            told = self._whole(parquet, path, str(self._language)).values[:, 0]
        for index in members:
            number, length = int(self._files.numbers[index]), int(self._files.lengths[index])
            found = runs.get(number, []) if runs is not None else [(0, int(ends[-1]) if len(ends) else 0)]
            reason = self._wrong(index, found, checks)
            if reason:
                self._broken[index] = f"{path}: {reason}"
                continue
            start = found[0][0]
            group = int(np.searchsorted(ends, start, side="right"))
            self._offset[index] = start - (int(ends[group - 1]) if group else 0)
            if "timestamp" in checks:
                self._late[index] = abs(float(checks["timestamp"].values[start, 0])) * self._rate_hz > 0.5
            if told is not None:
                spoken = told[start : start + length]
                self._task[index] = int(spoken[0]) if (spoken == spoken[0]).all() else _VARIES
            elif self._language is not None:
                self._task[index] = _TEXT
            self._group[index] = group

    def _wrong(self, index: int, found: list[tuple[int, int]], checks: Mapping[str, ColumnRows]) -> str:
        number, length = int(self._files.numbers[index]), int(self._files.lengths[index])
        leave = "Leave the episode out, as `vla-kit data clean` does, or fetch the set again."
        if not length:
            return f"episode {number} must have at least one frame, got 0 in meta. {leave}"
        rows = sum(stop - start for start, stop in found)
        if len(found) != 1 or rows != length:
            return f"must hold {length} rows of episode {number} in a row, got {rows}. {leave}"
        start, stop = found[0]
        for key, rows_of in checks.items():
            if rows_of.broken is not None and rows_of.broken[start:stop].any():
                frame = int(np.flatnonzero(rows_of.broken[start:stop])[0])
                return f"{key} must be a finite number, got none in episode {number}, frame {frame}. {leave}"
        wrong = ""
        if "frame_index" in checks:
            wrong = wrong_frames(checks["frame_index"].values[start:stop, 0])
        if not wrong and "timestamp" in checks:
            times = checks["timestamp"].values[start:stop, 0]
            wrong = wrong_times(times, rate_hz=self._rate_hz, tolerance_s=self._tolerance_s)
            if "advance" in wrong:
                leave = f"{leave[:-1]}; a larger tolerance_s allows it."
        return f"{wrong} in episode {number}. {leave}" if wrong else ""

    def _whole(self, parquet: pq.ParquetFile, path: Path, key: str) -> ColumnRows:
        return unpack(read_rows(parquet, path, key), size=1, path=path, key=key)

    def _refuse(self, rows: ColumnRows, key: str, index: int, *, offset: int, frame: int) -> None:
        path = self._files.data_path(self._files.data_file(index))
        row = offset + int(np.flatnonzero(rows.broken[offset:])[0])  # type: ignore[index]  # the caller saw a broken row
        where, leave = f"in episode {index}, frame {frame + row - offset}", "Leave the episode out, as"
        if row in rows.reasons:
            raise DataError(f"{path}: {key} must {rows.reasons[row]} {where}. {leave} `vla-kit data clean` does.")
        channel = int(np.flatnonzero(~np.isfinite(rows.values[row]))[0])
        raise DataError(
            f"{path}: {key} must be finite, got {rows.values[row, channel]} {where}, channel {channel}. "
            f"{leave} `vla-kit data clean` does."
        )

    # Reading

    def _table(self, file: int) -> tuple[pq.ParquetFile, ndarray]:
        return TABLES.get((self._owner, file), partial(self._open_table, file))  # type: ignore[no-any-return]  # holds any

    def _open_table(self, file: int) -> tuple[tuple[pq.ParquetFile, ndarray], float]:
        """An open file and the row after the last one of each row group."""
        parquet = open_parquet(self._files.data_path(file))
        groups = range(parquet.metadata.num_row_groups)
        return (parquet, np.cumsum([parquet.metadata.row_group(group).num_rows for group in groups])), 1

    def _numbers(self, file: int, key: str, group: int) -> ColumnRows:
        return ARRAYS.get(  # type: ignore[no-any-return]  # holds anything
            (self._owner, file, key, group), partial(self._read_numbers, file, key, group)
        )

    def _read_numbers(self, file: int, key: str, group: int) -> tuple[ColumnRows, float]:
        path = self._files.data_path(file)
        column = read_rows(self._table(file)[0], path, key, group=group)
        rows = unpack(column, size=self._columns[key].size, path=path, key=key)
        return rows, rows.values.nbytes

    def _entry(self, file: int, index: int, key: str, frame: int) -> object:
        """What a column of images or texts holds at a frame."""
        group, row = int(self._group[index]), int(self._offset[index]) + frame
        while True:
            array = ARRAYS.get((self._owner, file, key, group), partial(self._read_packed, file, key, group))
            if row < len(array):
                return array[row].as_py()
            group, row = group + 1, row - len(array)

    def _read_packed(self, file: int, key: str, group: int) -> tuple[pa.Array, float]:
        return packed(read_rows(self._table(file)[0], self._files.data_path(file), key, group=group))

    def _told(self, file: int, index: int, frame: int) -> int | str:
        key = str(self._language)
        if self._task[index] == _TEXT:
            told = self._entry(file, index, key, frame)
            return told if isinstance(told, int | str) else ""
        return int(self.column(index, key)[frame, 0])

    def _image(self, file: int, index: int, key: str, frame: int) -> Tensor:
        path = self._files.data_path(file)
        where = f"{path}: {key} of episode {index}, frame {frame}"
        entry = self._entry(file, index, key, frame)
        data, outside = entry, None
        if isinstance(entry, dict):
            data, outside = entry.get("bytes"), entry.get("path")
        elif isinstance(entry, str):
            data, outside = None, entry
        if data is None and outside:
            try:
                data = (self._files.root / outside).read_bytes()
            except OSError as error:
                raise DataError(
                    f"{where} must exist at {self._files.root / outside}, got: {error}. Fetch the images too."
                ) from error
        if not isinstance(data, bytes):
            raise DataError(f"{where} must hold the bytes of an image, got {entry!r}. Fetch or write the set again.")
        return torch.from_numpy(picture(data, where)).permute(2, 0, 1).contiguous()

    def _decoder(self, key: str, video: int, index: int) -> VideoDecoder:
        return DECODERS.get((self._owner, key, video), partial(self._open_video, key, video, index))

    def _open_video(self, key: str, file: int, index: int) -> tuple[VideoDecoder, float]:
        path = self._files.video_path(key, file)
        needed, alone = self._files.video_length(key, file)
        decoder = open_video(path, backend=self._video, rate_hz=None if alone else self._rate_hz)
        held = len(decoder)
        if held < needed:
            raise DataError(
                f"{path} must hold {needed} frames, got {held}. Which one was lost cannot be told, so none is used; "
                "fetch or record the video again, or leave its episodes out."
            )
        if alone and held > needed:
            if self._late[index]:
                raise DataError(
                    f"{path} must hold {needed} frames, one per row, got {held}, and the timestamps do "
                    "not begin at 0. Which frame belongs to which row cannot be told; leave the episode out."
                )
            decoder = open_video(path, backend=self._video, rate_hz=self._rate_hz)
        return decoder, 1
