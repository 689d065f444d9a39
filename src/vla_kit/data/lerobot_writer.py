"""Write LeRobot v3.0 data sets, whole or not at all."""

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from PIL import Image

from vla_kit.data._rate import check_rate
from vla_kit.data.lerobot_layout import (
    CODEBASE_VERSION,
    DATA_PATH,
    EPISODES_PATH,
    INDEX_FEATURES,
    INFO_PATH,
    STATS_PATH,
    TASKS_PATH,
    VIDEO_PATH,
    check_features,
    data_schema,
    tasks_table,
)
from vla_kit.data.lerobot_stats import array_statistics, pixel_histogram, pixel_statistics
from vla_kit.data.video_pyav import PyAVEncoder
from vla_kit.errors import DataError, DtypeError, SettingError, ShapeError

__all__ = ["LeRobotWriter"]

_CHUNK_SIZE: Final = 1000  # files per chunk folder
_DATA_FILE_MB: Final = 100
_VIDEO_FILE_MB: Final = 200
_VIDEO_FILE_S: Final = 600.0  # lerobot looks frames up by float32 seconds: keep them small enough to be exact
_EPISODE_FILE_ROWS: Final = 10_000
_EPISODE_GROUP_ROWS: Final = 500
_PNG_LEVEL: Final = 4
_PART_FRAMES: Final = 64  # pictures of one camera in memory at a time, where the caller's can be read in parts


class LeRobotWriter:
    """Writes episodes into a new data set of the LeRobot v3.0 layout, which `lerobot` 0.4 opens as its own.

    Files grow in a hidden folder beside `root` and move there when `close` ends well. An exception inside the `with`
    block, or `abort`, removes them: at `root` there is a whole data set or nothing.

    Frames of a `video` feature become h264 (quality 18, 4:2:0, which halves the colour resolution: small coloured
    things blur below about 100 pixels); frames of an `image` feature become PNG inside the data files, exactly.
    The statistics in `meta/stats.json` are those of all frames, quantiles included.

    Use one writer per process; to collect in parallel give each worker its own root and join them with
    `vla_kit.data.lerobot_merge.merge_lerobot`, or send the episodes to one writer.

    Args:
        root: Folder to create. It may exist when empty.
        rate_hz: Frames per second.
        features: Key -> `{"dtype": ..., "shape": ..., "names": ...}`, with `action` among them. Cameras are
            `image` or `video` of shape `(height, width, 3)`; everything else is `(size,)` numbers per step.
        robot_type: Name of the robot, kept in `info.json`.

    Raises:
        SettingError: If `root` holds something or cannot be made, `rate_hz` is not above 0 or a feature is unsupported.

    Examples:
        >>> folder = tempfile.TemporaryDirectory()
        >>> features = {"action": {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}}
        >>> with LeRobotWriter(Path(folder.name) / "set", rate_hz=10, features=features, robot_type="point") as writer:
        ...     writer.add_episode(np.ones((5, 2), dtype=np.float32), instruction="move to the corner")
        >>> sorted(path.name for path in (Path(folder.name) / "set").iterdir())
        ['data', 'meta']
        >>> folder.cleanup()
    """

    def __init__(
        self,
        root: str | Path,
        *,
        rate_hz: float,
        features: Mapping[str, Mapping[str, Any]],
        robot_type: str | None = None,
    ) -> None:
        check_rate(rate_hz)
        self._features = check_features(features)
        self._root = Path(root).absolute()
        check_new_root(self._root)
        self._rate_hz, self._robot_type = rate_hz, robot_type
        self._schema = data_schema({**self._features, **INDEX_FEATURES})
        self._cameras = [key for key, feature in self._features.items() if feature["dtype"] in ("image", "video")]
        self._videos = {key: _VideoFiles() for key in self._cameras if self._features[key]["dtype"] == "video"}
        self._tasks: dict[str, int] = {}
        self._episodes: list[dict[str, Any]] = []
        self._num_frames = 0
        self._columns: dict[str, list[ndarray]] = {}
        self._histograms: dict[str, ndarray] = {}
        self._data: pq.ParquetWriter | None = None
        self._data_file = 0
        self._closed = False
        self._folder = folder_beside(self._root)

    @property
    def num_episodes(self) -> int:
        """Episodes added so far."""
        return len(self._episodes)

    @property
    def num_frames(self) -> int:
        """Frames added so far."""
        return self._num_frames

    @property
    def pixel_histograms(self) -> dict[str, Int[ndarray, "3 256"]]:
        """Camera key -> how often each value occurs so far, per colour; see `pixel_histogram`."""
        return {key: counts.copy() for key, counts in self._histograms.items()}

    def add_episode(
        self,
        actions: Float[ndarray, "step size"],
        frames: Mapping[str, UInt8[ndarray, "step height image_width 3"]] | None = None,
        *,
        instruction: str | Sequence[str],
        columns: Mapping[str, ndarray] | None = None,
        seed: int | None = None,
    ) -> None:
        """Append one episode. Nothing is written when an argument is wrong.

        Args:
            actions: Native actions, one row per frame; row `t` is what the robot did after seeing frame `t`.
            frames: Camera key -> RGB frames, for every camera of `features`. They are read in slices, so that what
                has `shape`, `dtype` and slices of a numpy array, such as an `h5py.Dataset`, need not fit in memory.
            instruction: The sentence of the episode, or one per frame.
            columns: The other columns of `features`, `[step, size]`, or `[step]` where the size is 1.
            seed: Seed that made the episode, kept in the episode's metadata.

        Raises:
            DataError: If the episode is empty, a number is NaN or infinite, or a key is missing or unknown.
            ShapeError: If an array has the wrong shape, or there is not one sentence per frame.
            DtypeError: If frames are not uint8, or numbers would be cut off by the type of their feature.
            SettingError: If the writer is closed.
        """
        if self._closed:
            raise SettingError("add_episode must come before close or abort, got a closed writer. Open a new one.")
        numbers = self._check_numbers({"action": actions, **(columns or {})}, length=len(actions))
        pictures = self._check_frames(frames or {}, length=len(actions))
        sentences = [instruction] * len(actions) if isinstance(instruction, str) else list(instruction)
        if not all(isinstance(sentence, str) for sentence in sentences):
            raise DtypeError("instruction must hold sentences only, got something else. Give a str for each frame.")
        if len(sentences) != len(actions):
            raise ShapeError(
                f"instruction must hold one sentence per frame ({len(actions)}), got {len(sentences)}. "
                "Give one for each frame, or a single one."
            )
        try:
            self._write_episode(numbers, pictures, sentences=sentences, seed=seed)
        except BaseException:
            self.abort()
            raise

    def close(self) -> None:
        """Finish the files and move the data set to `root`.

        Raises:
            DataError: If no episode was added.
        """
        if self._closed:
            return
        if not self._episodes:
            self.abort()
            raise DataError(f"{self._root} must hold at least one episode, got none. Add episodes before close.")
        try:
            if self._data is not None:
                self._data.close()
            for video in self._videos.values():
                video.close()
            self._write_meta()
            check_new_root(self._root)
            self._folder.chmod(0o755)
            os.replace(self._folder, self._root)
        except BaseException:
            self.abort()
            raise
        self._closed = True

    def abort(self) -> None:
        """Drop everything written so far; `root` stays as it was."""
        if self._closed:
            return
        self._closed = True
        for video in self._videos.values():
            video.abort()
        if self._data is not None:
            self._data.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "LeRobotWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close() if kind is None else self.abort()

    def _check_numbers(self, columns: Mapping[str, ndarray], *, length: int) -> dict[str, ndarray]:
        expected = [key for key in self._features if key not in self._cameras]
        _check_keys("columns", columns, expected)
        if length == 0:
            raise DataError("actions must hold at least one step, got 0. Leave empty episodes out.")
        checked = {}
        for key in expected:
            size = self._features[key]["shape"][0]
            values = np.asarray(columns[key])
            if size == 1 and values.ndim == 1:
                values = values[:, None]
            if values.shape != (length, size):
                raise ShapeError(
                    f"{key} must have the shape (step, size) {(length, size)}, got {values.shape}. "
                    "Give one row per frame, as wide as the feature."
                )
            dtype = np.dtype(self._features[key]["dtype"])
            if not np.can_cast(values.dtype, dtype, "same_kind"):
                raise DtypeError(
                    f"{key} must fit its feature of {dtype}, got {values.dtype}. Convert the numbers, or change the "
                    "dtype of the feature."
                )
            values = values.astype(dtype)
            broken = np.argwhere(~np.isfinite(values))
            if len(broken):
                raise DataError(
                    f"{key} must be finite, got {values[tuple(broken[0])]} at step {broken[0][0]}, "
                    f"channel {broken[0][1]} of episode {self.num_episodes}. Drop the episode or repair its source."
                )
            checked[key] = values
        return checked

    def _check_frames(self, frames: Mapping[str, ndarray], *, length: int) -> dict[str, ndarray]:
        _check_keys("frames", frames, self._cameras)
        checked = {}
        for key in self._cameras:
            pixels = frames[key]
            shape = (length, *self._features[key]["shape"])
            if tuple(pixels.shape) != shape:
                raise ShapeError(
                    f"frames[{key!r}] must have the shape (step, height, width, 3) {shape}, got {tuple(pixels.shape)}. "
                    "Give one frame per action, colour last."
                )
            if pixels.dtype != np.uint8:
                raise DtypeError(f"frames[{key!r}] must be uint8 in [0, 255], got {pixels.dtype}. Keep raw pixels.")
            checked[key] = pixels
        return checked

    def _write_episode(
        self, numbers: dict[str, ndarray], pictures: dict[str, ndarray], *, sentences: list[str], seed: int | None
    ) -> None:
        length, episode, first = len(numbers["action"]), self.num_episodes, self._num_frames
        tasks = [self._tasks.setdefault(sentence, len(self._tasks)) for sentence in sentences]
        steps = np.arange(length)
        numbers = {
            **numbers,
            "timestamp": (steps / self._rate_hz).astype(np.float32)[:, None],
            "frame_index": steps[:, None],
            "episode_index": np.full((length, 1), episode),
            "index": (first + steps)[:, None],
            "task_index": np.array(tasks)[:, None],
        }
        row: dict[str, Any] = {"episode_index": episode, "tasks": list(dict.fromkeys(sentences)), "length": length}
        histograms = {key: np.zeros((3, 256), dtype=np.int64) for key in pictures}
        row |= self._write_data(numbers, pictures, histograms, length=length)
        row |= {"dataset_from_index": first, "dataset_to_index": first + length}
        for key, video in self._videos.items():
            row |= self._write_video(key, video, pictures[key], histograms[key])
        row["seed"] = seed
        for key, values in numbers.items():
            self._columns.setdefault(key, []).append(values)
            row |= _flat_statistics(key, array_statistics(values))
        for key, histogram in histograms.items():
            self._histograms[key] = self._histograms.get(key, 0) + histogram
            row |= _flat_statistics(key, pixel_statistics(histogram, count=length))
        self._episodes.append(row)
        self._num_frames += length

    def _write_data(
        self,
        numbers: dict[str, ndarray],
        pictures: dict[str, ndarray],
        histograms: dict[str, ndarray],
        *,
        length: int,
    ) -> dict[str, int]:
        arrays = []
        for field in self._schema:
            if field.name in pictures:
                parts = _parts(pictures[field.name], histograms[field.name])
                encoded = [{"bytes": _png(pixels), "path": None} for part in parts for pixels in part]
                arrays.append(pa.array(encoded, field.type))
            elif pa.types.is_fixed_size_list(field.type):
                flat = pa.array(numbers[field.name].ravel(), field.type.value_type)
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
            else:
                arrays.append(pa.array(numbers[field.name][:, 0], field.type))
        path = self._data_path()
        if self._data is not None and path.stat().st_size >= _DATA_FILE_MB * 2**20:
            self._data.close()
            self._data = None
            self._data_file += 1
            path = self._data_path()
        if self._data is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._data = pq.ParquetWriter(path, self._schema, compression="snappy")
        # One row group per episode: a reader of single frames unpacks one episode, not the file.
        self._data.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=length)
        return {
            "data/chunk_index": self._data_file // _CHUNK_SIZE,
            "data/file_index": self._data_file % _CHUNK_SIZE,
        }

    def _data_path(self) -> Path:
        chunk, file = divmod(self._data_file, _CHUNK_SIZE)
        return self._folder / DATA_PATH.format(chunk_index=chunk, file_index=file)

    def _write_video(self, key: str, video: "_VideoFiles", pixels: ndarray, histogram: ndarray) -> dict[str, Any]:
        limit = _VIDEO_FILE_S * self._rate_hz
        if video.encoder is not None:
            full = video.encoder.num_bytes >= _VIDEO_FILE_MB * 2**20
            if full or video.encoder.num_frames + pixels.shape[0] > limit:
                video.close()
                video.file += 1
        chunk, file = divmod(video.file, _CHUNK_SIZE)
        if video.encoder is None:
            path = self._folder / VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=file)
            path.parent.mkdir(parents=True, exist_ok=True)
            video.encoder = PyAVEncoder(path, rate_hz=self._rate_hz, height=pixels.shape[1], width=pixels.shape[2])
        first = video.encoder.num_frames
        for part in _parts(pixels, histogram):
            video.encoder.write(part)
        return {
            f"videos/{key}/chunk_index": chunk,
            f"videos/{key}/file_index": file,
            f"videos/{key}/from_timestamp": first / self._rate_hz,
            f"videos/{key}/to_timestamp": (first + pixels.shape[0]) / self._rate_hz,
        }

    def _write_meta(self) -> None:
        stats = {key: array_statistics(np.concatenate(parts)) for key, parts in self._columns.items()}
        stats |= {key: pixel_statistics(sums, count=self._num_frames) for key, sums in self._histograms.items()}
        write_meta(
            self._folder,
            features={**self._features, **INDEX_FEATURES},
            rate_hz=self._rate_hz,
            robot_type=self._robot_type,
            tasks=list(self._tasks),
            episodes=self._episodes,
            statistics=stats,
        )


def write_meta(
    folder: Path,
    *,
    features: Mapping[str, Mapping[str, Any]],
    rate_hz: float,
    robot_type: str | None,
    tasks: Iterable[str],
    episodes: Iterable[dict[str, Any]],
    statistics: Mapping[str, Mapping[str, ndarray]] | Callable[[], Mapping[str, Mapping[str, ndarray]]],
) -> None:
    """Write the files of `meta/`, given the rows of the episode table.

    Args:
        folder: Root of the data set.
        features: As `info.json` holds them, index columns included.
        rate_hz: Frames per second.
        robot_type: Name of the robot.
        tasks: Instructions in the order of their index; read after the episodes.
        episodes: Rows of the episode table, in order; a few are in memory at a time.
        statistics: Feature -> statistic -> value, or what makes it once the episodes are read.
    """
    (folder / "meta").mkdir(exist_ok=True)
    num_episodes, num_frames = _write_episodes(folder, episodes)
    sentences = list(tasks)
    values_of = statistics() if callable(statistics) else statistics
    rate = int(rate_hz) if float(rate_hz).is_integer() else rate_hz
    described: dict[str, dict[str, Any]] = {}
    for key, feature in features.items():
        described[key] = {name: value for name, value in feature.items() if name != "info"}
        if feature["dtype"] == "video":
            described[key]["info"] = {
                "video.height": feature["shape"][0],
                "video.width": feature["shape"][1],
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": rate,
                "video.channels": 3,
                "has_audio": False,
            }
    info = {
        "codebase_version": CODEBASE_VERSION,
        "robot_type": robot_type,
        "total_episodes": num_episodes,
        "total_frames": num_frames,
        "total_tasks": len(sentences),
        "chunks_size": _CHUNK_SIZE,
        "data_files_size_in_mb": _DATA_FILE_MB,
        "video_files_size_in_mb": _VIDEO_FILE_MB,
        "fps": rate,
        "splits": {"train": f"0:{num_episodes}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if any(feature["dtype"] == "video" for feature in features.values()) else None,
        "features": described,
    }
    (folder / INFO_PATH).write_text(json.dumps(info, indent=4, ensure_ascii=False), encoding="utf-8")
    listed = {key: {name: value.tolist() for name, value in values.items()} for key, values in values_of.items()}
    (folder / STATS_PATH).write_text(json.dumps(listed, indent=4), encoding="utf-8")
    pq.write_table(tasks_table(sentences), folder / TASKS_PATH)


def _write_episodes(folder: Path, episodes: Iterable[dict[str, Any]]) -> tuple[int, int]:
    """Write the episode table in files of some thousand rows; returns the number of episodes and of frames."""
    num_episodes = num_frames = 0
    schema: Any = None
    writer: Any = None
    rows = iter(episodes)
    try:
        while group := list(islice(rows, _EPISODE_GROUP_ROWS)):
            chunk, file = divmod(num_episodes // _EPISODE_FILE_ROWS, _CHUNK_SIZE)
            for row in group:
                row["meta/episodes/chunk_index"], row["meta/episodes/file_index"] = chunk, file
            schema = schema or pa.schema([_settled(field) for field in pa.Table.from_pylist(group).schema])
            if num_episodes % _EPISODE_FILE_ROWS == 0:
                if writer is not None:
                    writer.close()
                path = folder / EPISODES_PATH.format(chunk_index=chunk, file_index=file)
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = pq.ParquetWriter(path, schema)
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            num_episodes += len(group)
            num_frames += sum(row["length"] for row in group)
    finally:
        if writer is not None:
            writer.close()
    return num_episodes, num_frames


def _settled(field: pa.Field) -> pa.Field:
    """A column's type for all rows, where the first ones may look like integers or hold nothing."""
    if field.name == "seed":
        return field.with_type(pa.int64())
    if field.name.startswith("stats/") and not field.name.endswith("/count"):
        return field.with_type(_floating(field.type))
    return field


def _floating(kind: pa.DataType) -> pa.DataType:
    return pa.list_(_floating(kind.value_type)) if pa.types.is_list(kind) else pa.float64()


def check_new_root(root: Path) -> None:
    """Refuse a folder that holds something.

    Args:
        root: Folder to be created.

    Raises:
        SettingError: If it is a file or a folder that is not empty.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise SettingError(f"root must not exist yet or be empty, got {root}. Choose another folder or remove it.")


def folder_beside(root: Path) -> Path:
    """Make a hidden folder beside a data set to be, which moves there when it is whole.

    Args:
        root: Folder to be created.

    Raises:
        SettingError: If nothing can be written there.
    """
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{root.name}.partial-", dir=root.parent))
    except OSError as error:
        raise SettingError(
            f"root must be a folder that can be made, got {root}: {error.strerror}. Choose another place."
        ) from error


class _VideoFiles:
    """The video file of one camera that is being written."""

    def __init__(self) -> None:
        self.file = 0
        self.encoder: PyAVEncoder | None = None

    def close(self) -> None:
        if self.encoder is not None:
            self.encoder.close()
            self.encoder = None

    def abort(self) -> None:
        if self.encoder is not None:
            self.encoder.abort()
            self.encoder = None


def _check_keys(argument: str, given: Mapping[str, Any], expected: list[str]) -> None:
    missing, unknown = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
    if missing or unknown:
        raise DataError(
            f"{argument} must hold exactly the keys {sorted(expected)}, got {sorted(given)} "
            f"(missing {missing}, unknown {unknown}). Give what features declares."
        )


def _parts(pixels: ndarray, histogram: ndarray) -> Iterator[ndarray]:
    """Read pictures slice by slice, and add their pixels to `histogram` on the way."""
    for start in range(0, pixels.shape[0], _PART_FRAMES):
        part = np.asarray(pixels[start : start + _PART_FRAMES])
        histogram += pixel_histogram(part)
        yield part


def _png(pixels: ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def _flat_statistics(key: str, values: Mapping[str, ndarray]) -> dict[str, Any]:
    return {f"stats/{key}/{name}": value.tolist() for name, value in values.items()}
