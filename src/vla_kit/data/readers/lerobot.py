"""Read data sets of the LeRobot layout: v3.0 here, older ones through `open_lerobot`."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data._name import check_name
from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.lerobot_layout import DATA_PATH, INFO_PATH, TASKS_PATH, VIDEO_PATH, read_table
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
from vla_kit.data.readers._lerobot_tables import open_parquet
from vla_kit.data.readers.lerobot_v2 import LeRobotV2Source
from vla_kit.data.source import CameraInfo, ColumnInfo, EpisodeSource
from vla_kit.errors import DataError

__all__ = ["LeRobotSource", "open_lerobot"]

_PLACES: Final = ("/chunk_index", "/file_index", "/from_timestamp", "/to_timestamp")
_HUB_ID: Final = re.compile(r"[\w.-]+/[\w.-]+")


class LeRobotSource:
    """Reads a data set of the LeRobot v3.0 layout from a folder; satisfies `EpisodeSource`.

    Only the metadata are read at construction. A data file is checked when it is first read: rows of an episode stand
    together, `frame_index` counts, `timestamp` advances by a frame. What was read is kept in a budget that all sets of
    the process share (128 MiB of columns, 32 open videos), so that five hundred sets take hardly more than five.

    The quantiles that such data sets publish in `meta/stats.json` are often averages over episodes, not quantiles of
    the data set; `vla_kit.data.statistics` computes the true ones from the frames.

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
        >>> import tempfile
        >>> from vla_kit.data.lerobot_writer import LeRobotWriter
        >>> folder = tempfile.TemporaryDirectory()
        >>> features = {"action": {"dtype": "float32", "shape": (2,)}}
        >>> with LeRobotWriter(f"{folder.name}/set", rate_hz=10, features=features) as writer:
        ...     writer.add_episode(np.eye(2, dtype=np.float32), instruction="push")
        >>> source = LeRobotSource(f"{folder.name}/set")
        >>> source.instruction_at(0, 1), source.column(0, "action").tolist()
        ('push', [[1.0, 0.0], [0.0, 1.0]])
        >>> folder.cleanup()
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
        if not version.startswith("v3."):
            raise DataError(
                f"{self._root / INFO_PATH}: codebase_version must be v3.0, got {version}. Open the set with "
                "vla_kit.data.readers.lerobot.open_lerobot, which reads v2.0 and v2.1 too."
            )
        self._columns = columns_of(self.features)
        self._tasks = _read_tasks(self._root / TASKS_PATH)
        self._files = _FilesV3(self._root, self._info)
        described = cameras_of(self.features)
        self._cameras = {
            key: camera for key, camera in described.items() if not camera.video or key in self._files.videos
        }
        self._fingerprint: str | None = None
        self._episodes = LeRobotEpisodes(
            self._files,
            columns=self._columns,
            cameras=self._cameras,
            rate_hz=self.rate_hz,
            tasks=self._tasks,
            language=language_key(self.features, language=language, where=self._root / INFO_PATH),
            tasks_path=self._root / TASKS_PATH,
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
        """`task_index` -> sentence."""
        return dict(self._tasks)

    @property
    def columns(self) -> dict[str, ColumnInfo]:
        """Columns of numbers by key."""
        return self._columns

    @property
    def cameras(self) -> dict[str, CameraInfo]:
        """Cameras by key; without those that the episode table does not know."""
        return self._cameras

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode; not to be written to."""
        return self._files.lengths

    @property
    def fingerprint(self) -> str:
        """Short digest that changes with the data set and not with its place.

        It covers the metadata, which hold statistics of each episode, and the size and the end of every data and
        video file; it does not read the frames.
        """
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self._root)
        return self._fingerprint

    @property
    def published_statistics(self) -> Mapping[str, Mapping[str, Any]]:
        """What `meta/stats.json` claims, right or wrong: feature -> statistic -> values; empty where there is none."""
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
            seed=self._files.seed(index),
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

    def images_at(self, key: str, places: Sequence[tuple[int, int]]) -> list[UInt8[Tensor, "3 height image_width"]]:
        """RGB frames of one camera at `(episode, frame)`, decoded together where they lie in one video.

        Raises:
            DataError: If there is no such camera, or a frame is missing or cannot be decoded.
        """
        return self._episodes.images_at(key, places)


def open_lerobot(
    root: str | Path,
    *,
    name: str | None = None,
    revision: str | None = None,
    video: Literal["auto", "torchcodec", "pyav"] = "auto",
    language: str | None = None,
    tolerance_s: float = 1e-4,
) -> EpisodeSource:
    """Open a LeRobot data set of any version, from a folder or from the hub.

    Args:
        root: Folder, or the id of a data set on the hub, such as `lerobot/pusht`, which is fetched into the hub's
            cache first. A folder of that name goes first.
        name: Name of the data set; the last part of `root` where None.
        revision: Branch, tag or commit on the hub.
        video: Decoder of videos, see `open_video`.
        language: Column that says what the robot was told, see `LeRobotSource`.
        tolerance_s: How far a frame may be from its time after the last one [s].

    Returns:
        `LeRobotSource` or `LeRobotV2Source`.

    Raises:
        DataError: If there is no such folder or data set, it is broken, or its version is not 2.0, 2.1 or 3.x.

    Examples:
        >>> open_lerobot("no/such/folder")
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: root must be a folder of the LeRobot layout, got no/such/folder: ...
    """
    folder = Path(root)
    if not folder.exists() and _HUB_ID.fullmatch(str(root)):
        from vla_kit.data.readers._lerobot_hub import fetch_lerobot

        folder = fetch_lerobot(str(root), revision=revision, check=_version)
        name = name if name is not None else str(root).split("/")[1]
    kind = LeRobotSource if _version(folder).startswith("v3.") else LeRobotV2Source
    return kind(folder, name=name, video=video, language=language, tolerance_s=tolerance_s)


def _version(root: Path) -> str:
    version = str(read_info(root)["codebase_version"])
    if not version.startswith(("v2.0", "v2.1", "v3.")):
        raise DataError(
            f"{root / INFO_PATH}: codebase_version must be v2.0, v2.1 or v3.0, got {version}. Convert the set with "
            "the lerobot release that wrote it."
        )
    return version


class _FilesV3:
    """Where episodes of a v3.0 set lie: many of them in a file; satisfies `LeRobotFiles`."""

    def __init__(self, root: Path, info: Mapping[str, Any]) -> None:
        self.root = root
        self._data_path, self._video_path = info.get("data_path"), info.get("video_path")
        table = _episode_table(root)
        numbers = _integers(table, "episode_index")
        if not np.array_equal(numbers, np.arange(len(numbers))) or not len(numbers):
            raise DataError(
                f"{root / 'meta/episodes'} must list the episodes 0, 1, 2, ... once each, got "
                f"{numbers[:8].tolist()}{'...' if len(numbers) > 8 else ''}. Fetch or write the set again."
            )
        self.numbers, self.lengths = numbers, _integers(table, "length")
        if (self.lengths < 0).any():
            raise DataError(
                f"{root / 'meta/episodes'}: length must not be negative, got {self.lengths.min()} in episode "
                f"{self.lengths.argmin()}. Fetch or write the set again."
            )
        self.lengths.setflags(write=False)
        self._data_names, self._data_file = _coded(table, "data")
        self.videos: dict[str, tuple[ndarray, ndarray, ndarray, ndarray]] = {}
        for key in cameras_of(info["features"]):
            place = [f"videos/{key}/{what}" for what in ("chunk_index", "file_index", "from_timestamp")]
            if set(place) <= set(table.column_names):
                names, file = _coded(table, f"videos/{key}")
                first = np.rint(_floats(table, place[2]) * info["fps"])
                until = f"videos/{key}/to_timestamp"
                stop = np.rint(_floats(table, until) * info["fps"]) if until in table.column_names else None
                span = self.lengths if stop is None else np.nan_to_num(stop - first, nan=-1).astype(np.int64)
                self.videos[key] = names, file, np.nan_to_num(first, nan=-1).astype(np.int64), span
        tasks = table["tasks"].to_pylist() if "tasks" in table.column_names else [[]] * len(numbers)
        self.tasks = TaskLists(entry or [] for entry in tasks)
        self._seeds = table["seed"].to_pylist() if "seed" in table.column_names else None

    def seed(self, index: int) -> int | None:
        """Seed that made an episode, where the set keeps it."""
        seed = self._seeds[index] if self._seeds is not None else None
        return None if seed is None else int(seed)

    def data_file(self, index: int) -> int:
        return int(self._data_file[index])

    def data_members(self, file: int) -> list[int]:
        members: list[int] = np.flatnonzero(self._data_file == file).tolist()
        return members

    def data_path(self, file: int) -> Path:
        chunk, number = (int(part) for part in self._data_names[file])
        return _existing(self.root, [self._data_path, DATA_PATH], chunk_index=chunk, file_index=number)

    def video_place(self, key: str, index: int) -> tuple[int, int]:
        _, file, first, span = self.videos[key]
        if span[index] != self.lengths[index] or first[index] < 0:
            raise DataError(
                f"{self.root / 'meta/episodes'}: from_timestamp and to_timestamp must span {self.lengths[index]} "
                f"frames, one per row, got {span[index]}. The video lost frames; leave the episode out, or fetch or "
                "record the set again."
            )
        return int(file[index]), int(first[index])

    def video_length(self, key: str, file: int) -> tuple[int, bool]:
        _, files, first, span = self.videos[key]
        there = files == file
        return int((first + span)[there].max()), False

    def video_path(self, key: str, file: int) -> Path:
        chunk, number = (int(part) for part in self.videos[key][0][file])
        patterns = [self._video_path, VIDEO_PATH]
        return _existing(self.root, patterns, video_key=key, chunk_index=chunk, file_index=number)


def _existing(root: Path, patterns: Sequence[str | None], **numbers: str | int) -> Path:
    """Where `info.json` says, or where the layout puts it if there is nothing."""
    paths = []
    for pattern in patterns:
        try:
            paths.append(root / str(pattern).format(**numbers))
        except (KeyError, IndexError, ValueError):
            continue
    return next((path for path in paths if path.is_file()), paths[0])


def _episode_table(root: Path) -> pa.Table:
    paths = sorted((root / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise DataError(f"{root / 'meta/episodes'} must hold parquet files, got none. Fetch the set again.")
    needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    tables = []
    for path in paths:
        file = open_parquet(path)
        names = file.schema_arrow.names
        missing = [name for name in needed if name not in names]
        if missing:
            raise DataError(f"{path} must hold the columns {needed}, got none of {missing}. Fetch the set again.")
        wanted = [name for name in names if name in (*needed, "tasks", "seed") or name.startswith("videos/")]
        try:
            tables.append(file.read(columns=wanted, use_threads=False))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{path} must be readable, got: {error}. Fetch the set again.") from error
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"{root / 'meta/episodes'} must hold columns of one type in all files, got: {error}. Fetch the set again."
        ) from error
    _check_episodes(table, root / "meta/episodes", needed=needed)
    return table.sort_by("episode_index") if len(tables) > 1 else table


def _check_episodes(table: pa.Table, where: Path, *, needed: Sequence[str]) -> None:
    for name in table.column_names:
        column = table[name]
        number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
        if name == "tasks":
            lists = pa.types.is_list(column.type) or pa.types.is_large_list(column.type)
            fits, what = lists or pa.types.is_null(column.type), "lists of sentences"
        elif name in needed:
            fits, what = number and not column.null_count, "a number for every episode"
        elif name == "seed" or name.endswith(_PLACES):
            fits, what = number or pa.types.is_null(column.type), "numbers"
        else:
            continue
        if not fits:
            found = f"{column.type} with {column.null_count} nulls"
            raise DataError(f"{where}: {name} must hold {what}, got {found}. Fetch or write the set again.")


def _integers(table: pa.Table, key: str) -> ndarray:
    return np.array(table[key].to_numpy(), dtype=np.int64)


def _floats(table: pa.Table, key: str) -> ndarray:
    return np.array(table[key].to_numpy(), dtype=np.float64)


def _coded(table: pa.Table, prefix: str) -> tuple[ndarray, ndarray]:
    """Chunk and file number of each file, and which of them each episode is in."""
    pairs = [np.nan_to_num(_floats(table, f"{prefix}/{part}_index"), nan=-1) for part in ("chunk", "file")]
    names, places = np.unique(np.stack(pairs, axis=1), axis=0, return_inverse=True)
    return names.astype(np.int64), places.ravel().astype(np.int32)


def _read_tasks(path: Path) -> dict[int, str]:
    table = read_table(path)
    texts = [field.name for field in table.schema if pa.types.is_string(field.type) or _is_large_string(field.type)]
    if "task_index" not in table.column_names or not texts:
        raise DataError(
            f"{path} must hold task_index and the sentences, got {table.column_names}. Fetch or write it again."
        )
    numbers, sentences = table["task_index"], table[texts[0]]
    if not pa.types.is_integer(numbers.type) or numbers.null_count or sentences.null_count:
        raise DataError(
            f"{path} must hold a whole task_index and a sentence in every row, got {numbers.type} with "
            f"{numbers.null_count + sentences.null_count} nulls. Fetch or write it again."
        )
    return dict(zip(numbers.to_pylist(), sentences.to_pylist(), strict=True))


def _is_large_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind))
