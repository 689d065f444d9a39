"""Read data sets of the LeRobot layouts v2.0 and v2.1: a parquet file and a video per episode and camera."""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data._name import check_name
from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.lerobot_layout import INFO_PATH
from vla_kit.data.readers._lerobot_episodes import LeRobotEpisodes
from vla_kit.data.readers._lerobot_info import (
    TaskLists,
    cameras_of,
    columns_of,
    fingerprint_of,
    language_key,
    read_info,
    read_published_statistics,
    sentences_only,
)
from vla_kit.data.source import CameraInfo, ColumnInfo
from vla_kit.errors import DataError

__all__ = ["LeRobotV2Source"]

_TASKS_PATH: Final = "meta/tasks.jsonl"
_EPISODES_PATH: Final = "meta/episodes.jsonl"
_EPISODE_FILE: Final = re.compile(r"episode_(\d+)\.(parquet|mp4|mkv|webm|mov|avi)")
_CHUNK_SIZE: Final = 1000


class LeRobotV2Source:
    """Reads a data set of the LeRobot layout v2.0 or v2.1 from a folder; satisfies `EpisodeSource`.

    An episode's file is the one that `info.json` names. Where that does not exist, it is the only file of that name
    (`episode_000003.parquet`, or `.mp4` in a folder named like the camera) below `data` or `videos`; two of them are
    an error. Cameras are those of which `videos` has a folder, whatever `info.json` says.

    Where an episode's video has as many frames as the episode has rows, they belong together in order, wherever the
    timestamps begin. A video with fewer frames is an error.

    Args:
        root: Folder that holds `meta`, `data` and, where there are videos, `videos`.
        name: Name of the data set; the folder's name where None.
        video: Decoder of videos, see `open_video`.
        language: Column of task indices or texts that says what the robot was told. Where None, a column
            `annotation...task_description` if there is exactly one, else `task_index`.
        tolerance_s: How far a frame may be from its time after the last one, as in lerobot [s].

    Raises:
        DataError: If the folder or one of its metadata files is missing or broken, or is of another version; the text
            names the file and the key. Methods raise it for an episode that is broken.
        SettingError: If `name` is empty, `video` unknown, or `tolerance_s` negative or infinite.

    Examples:
        >>> LeRobotV2Source("no/such/folder")
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: root must be a folder of the LeRobot layout, got no/such/folder: ...
    """

    def __init__(
        self,
        root: str | Path,
        *,
        name: str | None = None,
        video: Literal["auto", "torchcodec", "pyav"] = "auto",
        language: str | None = None,
        tolerance_s: float = 1e-4,
    ) -> None:
        check_name("name", name)
        self._root = Path(root)
        self._name = name if name is not None else self._root.absolute().name
        self._info = read_info(self._root)
        version = str(self._info["codebase_version"])
        if not version.startswith(("v2.0", "v2.1")):
            raise DataError(
                f"{self._root / INFO_PATH}: codebase_version must be v2.0 or v2.1, got {version}. Open the set with "
                "vla_kit.data.readers.lerobot.open_lerobot."
            )
        self._columns = columns_of(self.features)
        told = language_key(self.features, language=language, where=self._root / INFO_PATH)
        self._tasks = _read_tasks(self._root / _TASKS_PATH) if told in self._columns else {}
        self._files = _FilesV2(self._root, self._info)
        self._cameras = _cameras(self.features, self._files.video_keys)
        self._fingerprint: str | None = None
        self._episodes = LeRobotEpisodes(
            self._files,
            columns=self._columns,
            cameras=self._cameras,
            rate_hz=self.rate_hz,
            tasks=self._tasks,
            language=told,
            tasks_path=self._root / _TASKS_PATH,
            video=video,
            tolerance_s=tolerance_s,
        )

    @property
    def root(self) -> Path:
        """Folder of the data set."""
        return self._root

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._name

    @property
    def location(self) -> str:
        """Folder of the data set, for messages."""
        return str(self._root)

    @property
    def rate_hz(self) -> float:
        """Frames per second."""
        return float(self._info["fps"])

    @property
    def info(self) -> dict[str, Any]:
        """What `meta/info.json` holds."""
        return self._info

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """Features as `info.json` describes them."""
        features: dict[str, dict[str, Any]] = self._info["features"]
        return features

    @property
    def tasks(self) -> dict[int, str]:
        """`task_index` -> sentence, and whatever else the set lists as tasks."""
        return dict(self._tasks)

    @property
    def columns(self) -> dict[str, ColumnInfo]:
        """Columns of numbers by key."""
        return self._columns

    @property
    def cameras(self) -> dict[str, CameraInfo]:
        """Cameras by key: image columns, and those whose videos lie on disk."""
        return self._cameras

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode; not to be written to."""
        return self._files.lengths

    @property
    def fingerprint(self) -> str:
        """Short digest that changes with the data set and not with its place.

        It covers the metadata and the size and the end of every data and video file; it does not read the frames.
        """
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self._root)
        return self._fingerprint

    @property
    def published_statistics(self) -> Mapping[str, Mapping[str, Any]]:
        """What `meta/stats.json` claims: feature -> statistic -> values; empty where there is none, as in v2.1."""
        return read_published_statistics(self._root)

    def episode(self, index: int) -> EpisodeInfo:
        """What the metadata knows of an episode.

        Raises:
            DataError: If there is no such episode.
        """
        if not 0 <= index < len(self.lengths):
            raise DataError(
                f"index must be an episode of {self._root} in [0, {len(self.lengths)}), got {index}. Choose one there."
            )
        return EpisodeInfo(
            index=index,
            length=int(self.lengths[index]),
            instructions=sentences_only(self._files.tasks[index], self.features),
        )

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot was told at a frame; empty where the data set has no language.

        Raises:
            DataError: If there is no such frame, or the tasks file does not list its task.
        """
        return self._episodes.instruction_at(index, frame)

    def column(self, index: int, key: str) -> ndarray:
        """A column of an episode, `[step, size]` in its own dtype, as a copy.

        Raises:
            DataError: If there is no such column, or the episode holds NaN or infinity there, or is incomplete.
        """
        return self._episodes.column(index, key)

    def images(self, index: int, key: str, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames of one camera, in the order of `indices`, repeats allowed.

        Raises:
            DataError: If there is no such camera, or a frame is missing or cannot be decoded.
        """
        return self._episodes.images(index, key, indices)


class _FilesV2:
    """Where episodes of a v2 set lie: each in files of its own; satisfies `LeRobotFiles`."""

    def __init__(self, root: Path, info: Mapping[str, Any]) -> None:
        self.root = root
        self._patterns = {"data": info.get("data_path"), "videos": info.get("video_path")}
        self._chunk_size = info.get("chunks_size") or _CHUNK_SIZE
        if not isinstance(self._chunk_size, int) or self._chunk_size < 1:
            raise DataError(
                f"{root / INFO_PATH}: chunks_size must be at least 1, got {self._chunk_size!r}. Fetch the set again."
            )
        path = root / _EPISODES_PATH
        rows = sorted(_episode_rows(path))
        numbers = np.array([number for number, _, _ in rows], dtype=np.int64)
        if not len(rows) or (np.diff(numbers) == 0).any():
            raise DataError(f"{path} must list episodes, each once, got {len(rows)} rows. Fetch or write it again.")
        self.numbers, self.lengths = numbers, np.array([length for _, length, _ in rows], dtype=np.int64)
        self.lengths.setflags(write=False)
        self.tasks = TaskLists(tasks for _, _, tasks in rows)
        self.video_keys = _video_keys(root / "videos")
        self._found: dict[str, dict[int, list[str]]] = {}

    def data_file(self, index: int) -> int:
        return index

    def data_members(self, file: int) -> tuple[int]:
        return (file,)

    def data_path(self, file: int) -> Path:
        return self._path("data", file)

    def video_place(self, key: str, index: int) -> tuple[int, int]:
        return index, 0

    def video_length(self, key: str, file: int) -> tuple[int, bool]:
        return int(self.lengths[file]), True

    def video_path(self, key: str, file: int) -> Path:
        return self._path(key, file)

    def _path(self, kind: str, index: int) -> Path:
        """File of an episode; `kind` is `data` or a camera."""
        number = int(self.numbers[index])
        folder = "data" if kind == "data" else "videos"
        named = self._named(folder, kind, number)
        if named is not None and named.is_file():
            return named
        if kind not in self._found:
            self._found[kind] = _look(self.root / folder, kind)
        found = self._found[kind].get(number, [])
        if len(found) == 1:
            return Path(found[0])
        what = f"episode_{number:06d}" if kind == "data" else f"episode_{number:06d} of {kind}"
        if found:
            raise DataError(
                f"{self.root / folder} must hold one file of {what}, got {sorted(found)}, and {INFO_PATH} names none "
                "of them. Remove the wrong ones."
            )
        raise DataError(
            f"{named or self.root / folder} must exist, but is missing, and there is no other file of {what} below "
            f"{self.root / folder}. The data set is incomplete; fetch it again, or leave the episode out."
        )

    def _named(self, folder: str, key: str, number: int) -> Path | None:
        """The path that `info.json` says."""
        chunk = number // self._chunk_size
        fields = {"episode_chunk": chunk, "chunk_index": chunk, "episode_index": number, "video_key": key}
        pattern = self._patterns[folder]
        try:
            return self.root / pattern.format(**fields) if isinstance(pattern, str) else None
        except (KeyError, IndexError, ValueError):
            return None


def _look(folder: Path, kind: str) -> dict[int, list[str]]:
    """Episode -> files of it below a folder; of a camera, those below a folder named like it."""
    found: dict[int, list[str]] = {}
    for place, _, names in os.walk(folder):
        if kind != "data" and kind not in Path(place).relative_to(folder).parts:
            continue
        for name in names:
            match = _EPISODE_FILE.fullmatch(name)
            if match and (match[2] == "parquet") == (kind == "data"):
                found.setdefault(int(match[1]), []).append(os.path.join(place, name))
    return found


def _video_keys(folder: Path) -> set[str]:
    """Cameras by the folders of `videos`: `chunk-000/KEY` or `KEY/chunk-000`."""
    keys: set[str] = set()
    for outer in _folders(folder):
        if outer.name.startswith("chunk-"):
            keys.update(inner.name for inner in _folders(outer))
        else:
            keys.add(outer.name)
    return keys


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _cameras(features: Mapping[str, Mapping[str, Any]], on_disk: set[str]) -> dict[str, CameraInfo]:
    cameras = {key: camera for key, camera in cameras_of(features).items() if not camera.video or key in on_disk}
    return cameras | {key: CameraInfo(video=True) for key in sorted(on_disk - set(cameras))}


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise ValueError(f"line {number} is no object")
                    yield number, row
    except FileNotFoundError:
        raise DataError(
            f"{path} must exist, but is missing. The data set is incomplete; fetch or write it again."
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(f"{path} must hold JSON objects, one a line, got: {error}. Fetch or write it again.") from error


def _read_tasks(path: Path) -> dict[int, str]:
    tasks = {}
    for number, row in _lines(path):
        if not isinstance(row.get("task_index"), int) or not isinstance(row.get("task"), str):
            raise DataError(f"{path} must hold task_index and task, got {row} in line {number}. Write it again.")
        tasks[row["task_index"]] = row["task"]
    return tasks


def _episode_rows(path: Path) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    for number, row in _lines(path):
        index, length = row.get("episode_index"), row.get("length")
        if not isinstance(index, int) or not isinstance(length, int) or index < 0 or length < 0:
            raise DataError(
                f"{path} must hold episode_index and length, got {index!r} and {length!r} in line {number}. "
                "Fetch or write it again."
            )
        tasks = row.get("tasks") or ()
        if not isinstance(tasks, str | list | tuple):
            raise DataError(f"{path} must list tasks, got {tasks!r} in line {number}. Fetch or write it again.")
        yield index, length, (tasks,) if isinstance(tasks, str) else tuple(str(task) for task in tasks)
