"""Read data sets of the LeRobot v3.0 layout."""

import hashlib
import io
import json
import os
import re
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from PIL import Image
from rich.console import Console
from rich.progress import track
from torch import Tensor

from vla_kit.actions import QuantileStats
from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.lerobot_layout import INFO_PATH, TASKS_PATH, read_table
from vla_kit.data.video import VideoDecoder, open_video
from vla_kit.errors import DataError

__all__ = ["LeRobotReader"]

_KEPT_ROW_GROUPS: Final = 16  # unpacked image columns per process: about one episode each
_KEPT_DECODERS: Final = 16  # open videos per process
_KEPT_FILES: Final = 16  # open data files per process, with images

_INHERITED: Final[list[object]] = []  # handles of a parent process; see `_frames_of`

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class LeRobotReader:
    """Reads a data set of the LeRobot v3.0 layout from a folder; satisfies `EpisodeReader`.

    Frames come from videos or from PNG columns, as the data set has them. Actions are kept in memory once read
    (4 bytes per entry); frames are decoded when asked for, or once at construction with `cache_frames`, which trades
    memory (height * width * 3 bytes per frame and view: 20,000 frames of 96x96 take 0.55 GB) for speed.

    The quantiles that such data sets publish in `meta/stats.json` are averages over episodes, not quantiles of the
    data set; `statistics` computes the true ones from the frames.

    Args:
        root: Folder that holds `meta`, `data` and, where there are videos, `videos`.
        embodiment: Name of the robot for prompter and normaliser.
        views: View tag -> feature key, such as `{"front": "observation.images.top"}`, in the order in which the
            views enter the model. Empty where no images are wanted.
        action: Feature key of the actions.
        name: Name of the data set; the folder's name where None.
        cache_frames: Decode every frame of `views` now and keep it in memory.
        video: Decoder of videos, see `open_video`.
        cache_folder: Where `statistics` keeps its result; `root/.vla_kit` where None. A folder that cannot be
            written is left alone.

    Raises:
        DataError: If the folder or one of its files is missing or broken, is of another version, has no such action
            column or no such view; the text names the file and the key.

    Examples:
        >>> from vla_kit.data.lerobot_writer import LeRobotWriter
        >>> folder = tempfile.TemporaryDirectory()
        >>> features = {"action": {"dtype": "float32", "shape": (2,)}}
        >>> with LeRobotWriter(f"{folder.name}/set", rate_hz=10, features=features) as writer:
        ...     writer.add_episode(np.eye(2, dtype=np.float32), instruction="push")
        >>> reader = LeRobotReader(f"{folder.name}/set", embodiment="point", views={})
        >>> reader.episode(0).instruction, reader.actions(0)
        ('push', tensor([[1., 0.], [0., 1.]]))
        >>> folder.cleanup()
    """

    def __init__(
        self,
        root: str | Path,
        *,
        embodiment: str,
        views: Mapping[str, str],
        action: str = "action",
        name: str | None = None,
        cache_frames: bool = False,
        video: Literal["auto", "torchcodec", "pyav"] = "auto",
        cache_folder: str | Path | None = None,
    ) -> None:
        self._root = Path(root)
        self._info = _read_info(self._root)
        self._features: dict[str, dict[str, Any]] = self._info["features"]
        self._action, self._views = action, dict(views)
        self._embodiment = embodiment
        self._name = name if name is not None else self._root.absolute().name
        self._video: Literal["auto", "torchcodec", "pyav"] = video
        self._cache_folder = Path(cache_folder) if cache_folder is not None else self._root / ".vla_kit"
        self._check_keys()
        self._tasks = self._read_tasks()
        self._episodes = self._read_episodes()
        self._columns: dict[tuple[Path, str], ndarray] = {}
        self._spans: dict[int, tuple[Path, int, int]] = {}
        self._forget_handles()
        self._cached: dict[str, Tensor] = self._decode_all() if cache_frames else {}

    @property
    def root(self) -> Path:
        """Folder of the data set."""
        return self._root

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._name

    @property
    def embodiment(self) -> str:
        """Name of the robot."""
        return self._embodiment

    @property
    def rate_hz(self) -> float:
        """Frames per second."""
        return float(self._info["fps"])

    @property
    def views(self) -> dict[str, str]:
        """View tag -> feature key."""
        return dict(self._views)

    @property
    def info(self) -> dict[str, Any]:
        """What `meta/info.json` holds."""
        return self._info

    @property
    def tasks(self) -> dict[int, str]:
        """`task_index` -> instruction."""
        return dict(self._tasks)

    @property
    def features(self) -> dict[str, dict[str, Any]]:
        """Features as `info.json` describes them."""
        return self._features

    @property
    def num_episodes(self) -> int:
        """Episodes in the data set."""
        return len(self._episodes)

    @property
    def num_frames(self) -> int:
        """Frames in the data set."""
        return sum(int(row["length"]) for row in self._episodes)

    @property
    def action_size(self) -> int:
        """Native action channels."""
        return int(self._features[self._action]["shape"][0])

    @property
    def fingerprint(self) -> str:
        """Short digest that changes with the data set and not with its place.

        It covers the metadata, which hold statistics of each episode, and the size and the footer of every data and
        video file; it does not read the frames.
        """
        digest = hashlib.sha256()
        paths = sorted(path for folder in ("meta", "data", "videos") for path in (self._root / folder).rglob("*.*"))
        for path in paths:
            if not path.is_file():
                continue
            digest.update(f"{path.relative_to(self._root).as_posix()}:{path.stat().st_size}:".encode())
            with path.open("rb") as file:
                if path.relative_to(self._root).parts[0] != "meta":
                    file.seek(max(0, path.stat().st_size - 65536))
                digest.update(file.read())
        return digest.hexdigest()[:16]

    def episode(self, index: int) -> EpisodeInfo:
        """What the metadata knows of an episode.

        Raises:
            DataError: If there is no such episode.
        """
        row = self._row(index)
        seed = row.get("seed")
        return EpisodeInfo(
            index=index,
            length=int(row["length"]),
            instructions=tuple(row.get("tasks") or ()),
            seed=None if seed is None else int(seed),
        )

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot was told at a frame, as the frame's `task_index` says."""
        row = self._row(index)
        self._check_frame(row, frame)
        path, start, _ = self._rows_of(row)
        task = int(self._column(path, "task_index")[start + frame, 0])
        if task not in self._tasks:
            raise DataError(
                f"{path} must hold a task_index of {self._root / TASKS_PATH}, got {task} in episode {index}, "
                f"frame {frame}. The tasks file is of another data set; fetch or write it again."
            )
        return self._tasks[task]

    def actions(self, index: int) -> Float[Tensor, "step size"]:
        """Native actions of an episode, float32.

        Raises:
            DataError: If they hold NaN or infinity, have another width than the metadata say, or are incomplete.
        """
        return torch.from_numpy(self.column(index, self._action).astype(np.float32))

    def column(self, index: int, key: str) -> ndarray:
        """Any column of numbers of an episode, `[step, size]` in its own dtype.

        Args:
            index: Episode.
            key: Feature key, such as `observation.state`.

        Raises:
            DataError: If there is no such column or it is broken.
        """
        path, start, stop = self._rows_of(self._row(index))
        return self._column(path, key)[start:stop].copy()

    def frames(self, index: int, indices: Sequence[int]) -> dict[str, UInt8[Tensor, "image 3 height image_width"]]:
        """RGB frames of an episode.

        Args:
            index: Episode.
            indices: Frames of the episode.

        Returns:
            View tag -> frames in the order of `indices`.

        Raises:
            DataError: If a frame is missing or cannot be decoded.
        """
        row = self._row(index)
        for frame in indices:
            self._check_frame(row, frame)
        if self._cached:
            first = self._starts[index]
            return {tag: frames[[first + int(frame) for frame in indices]] for tag, frames in self._cached.items()}
        return {tag: self._frames_of(row, key, indices) for tag, key in self._views.items()}

    def statistics(self) -> QuantileStats:
        """Exact statistics of the actions over every frame, kept on disk under the fingerprint of the data set."""
        key = re.sub(r"[^\w.-]", "_", self._action)
        path = self._cache_folder / f"statistics-{key}-{self.fingerprint}.json"
        if path.is_file():
            try:
                return QuantileStats.from_dict(json.loads(path.read_text(encoding="utf-8")))
            except ValueError as error:
                raise DataError(f"{path} must hold statistics, got: {error}. Delete the file.") from error
        stats = QuantileStats.from_frames(
            np.concatenate([self.column(index, self._action) for index in range(self.num_episodes)])
        )
        try:
            self._cache_folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self._cache_folder, delete=False, encoding="utf-8") as file:
                json.dump(stats.to_dict(), file)
            os.replace(file.name, path)
        except OSError:
            pass  # a read-only data set: compute again next time
        return stats

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        for handle in ("_decoders", "_files", "_row_groups"):
            del state[handle]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_handles()

    def _forget_handles(self) -> None:
        self._process = os.getpid()
        self._decoders: OrderedDict[Path, VideoDecoder] = OrderedDict()
        self._files: OrderedDict[Path, tuple[pq.ParquetFile, ndarray]] = OrderedDict()
        self._row_groups: OrderedDict[tuple[Path, str, int], pa.ChunkedArray] = OrderedDict()

    # Reading of metadata

    def _check_keys(self) -> None:
        path = self._root / INFO_PATH
        cameras = sorted(key for key, feature in self._features.items() if feature["dtype"] in ("image", "video"))
        if self._action not in self._features:
            numbers = sorted(set(self._features) - set(cameras))
            raise DataError(f"action must be a column of {path}, got {self._action!r}. Choose one of {numbers}.")
        shape = self._features[self._action].get("shape")
        if not isinstance(shape, list) or len(shape) != 1:
            raise DataError(f"{path}: {self._action} must have a shape (size,), got {shape}. Flatten the actions.")
        for tag, key in self._views.items():
            if key not in cameras:
                raise DataError(f"views[{tag!r}] must be a camera of {path}, got {key!r}. Choose one of {cameras}.")

    def _read_tasks(self) -> dict[int, str]:
        path = self._root / TASKS_PATH
        table = read_table(path)
        texts = [field.name for field in table.schema if pa.types.is_string(field.type) or _is_large_string(field.type)]
        if "task_index" not in table.column_names or not texts:
            raise DataError(
                f"{path} must hold task_index and the sentences, got {table.column_names}. Fetch or write it again."
            )
        return dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True))

    def _read_episodes(self) -> list[dict[str, Any]]:
        paths = sorted((self._root / "meta/episodes").glob("*/*.parquet"))
        if not paths:
            raise DataError(f"{self._root / 'meta/episodes'} must hold parquet files, got none. Fetch the set again.")
        rows: list[dict[str, Any]] = []
        needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        for key in self._views.values():
            if self._features[key]["dtype"] == "video":
                needed += [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
        for path in paths:
            schema = _parquet(path).schema_arrow
            missing = [name for name in needed if name not in schema.names]
            if missing:
                raise DataError(f"{path} must hold the columns {needed}, got none of {missing}. Fetch the set again.")
            rows += read_table(path, [name for name in schema.names if not name.startswith("stats/")]).to_pylist()
        rows.sort(key=lambda row: int(row["episode_index"]))
        if [row["episode_index"] for row in rows] != list(range(len(rows))) or not rows:
            raise DataError(f"{paths[0]} must list the episodes 0, 1, 2, ... once each. Fetch or write the set again.")
        empty = [row["episode_index"] for row in rows if row["length"] < 1]
        if empty:
            raise DataError(f"{paths[0]} must list episodes of at least one frame, got 0 in {empty}. Remove them.")
        self._starts = np.cumsum([0, *(row["length"] for row in rows)]).tolist()
        return rows

    def _row(self, index: int) -> dict[str, Any]:
        if not 0 <= index < self.num_episodes:
            raise DataError(
                f"index must be an episode of {self._root} in [0, {self.num_episodes}), got {index}. Choose one there."
            )
        return self._episodes[index]

    def _check_frame(self, row: Mapping[str, Any], frame: int) -> None:
        if not 0 <= frame < row["length"]:
            raise DataError(
                f"frame must lie in [0, {row['length']}) in episode {row['episode_index']} of {self._root}, "
                f"got {frame}. Choose one there."
            )

    # Reading of columns

    def _rows_of(self, row: Mapping[str, Any]) -> tuple[Path, int, int]:
        """Data file of an episode and the rows of the file that are the episode."""
        index = int(row["episode_index"])
        if index in self._spans:
            return self._spans[index]
        pattern = self._info["data_path"]
        path = self._root / pattern.format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        episodes = self._column(path, "episode_index")[:, 0]
        found = np.flatnonzero(episodes == index)
        if len(found) != row["length"] or (len(found) and found[-1] - found[0] + 1 != len(found)):
            raise DataError(
                f"{path} must hold {row['length']} rows of episode {index} in a row, "
                f"got {len(found)}. The file is incomplete; fetch or write it again."
            )
        self._spans[index] = (path, int(found[0]), int(found[-1]) + 1)
        return self._spans[index]

    def _column(self, path: Path, key: str) -> ndarray:
        if (path, key) not in self._columns:
            if path.is_file() and key not in _parquet(path).schema_arrow.names:
                raise DataError(
                    f"{path} must hold the column {key!r}, got {_parquet(path).schema_arrow.names}. Choose one of them."
                )
            self._columns[path, key] = self._to_array(read_table(path, [key])[key], path=path, key=key)
        return self._columns[path, key]

    def _to_array(self, column: pa.ChunkedArray, *, path: Path, key: str) -> ndarray:
        kind, length = column.type, len(column)
        if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
            sizes = pc.unique(pc.list_value_length(column)).to_pylist()
            column = pc.list_flatten(column)
        else:
            sizes = [1]
        declared = self._features.get(key, {}).get("shape")
        if len(sizes) != 1 or (declared is not None and list(declared) != sizes):
            raise DataError(
                f"{path}: {key} must have {declared} entries per step, as meta/info.json says, got {sizes}. "
                "Fetch or write the set again."
            )
        if column.null_count or not (pa.types.is_primitive(column.type)):
            raise DataError(
                f"{path}: {key} must hold numbers only, got {column.null_count} nulls and the type {column.type}. "
                "Fetch or write the set again."
            )
        values: ndarray = column.to_numpy().reshape(length, sizes[0])
        broken = np.argwhere(~np.isfinite(values)) if np.issubdtype(values.dtype, np.floating) else np.empty((0, 2))
        if len(broken):
            step, channel = (int(place) for place in broken[0])
            episode, frame = (int(self._column(path, name)[step, 0]) for name in ("episode_index", "frame_index"))
            raise DataError(
                f"{path}: {key} must be finite, got {values[step, channel]} in episode {episode}, frame {frame}, "
                f"channel {channel}. Remove the episode from the data set."
            )
        return values

    # Reading of frames

    def _frames_of(self, row: Mapping[str, Any], key: str, indices: Sequence[int]) -> Tensor:
        if os.getpid() != self._process:
            # Forked: the handles belong to the parent. Freeing a decoder would wait for threads that were not forked.
            _INHERITED.extend((self._decoders, self._files, self._row_groups))
            self._forget_handles()
        if self._features[key]["dtype"] == "video":
            return self._video_frames(row, key, indices)
        return self._image_frames(row, key, indices)

    def _video_frames(self, row: Mapping[str, Any], key: str, indices: Sequence[int]) -> Tensor:
        path = self._root / self._info["video_path"].format(
            video_key=key, chunk_index=row[f"videos/{key}/chunk_index"], file_index=row[f"videos/{key}/file_index"]
        )
        first = round(row[f"videos/{key}/from_timestamp"] * self.rate_hz)
        try:
            decoder = _kept(self._decoders, path, _KEPT_DECODERS, lambda: open_video(path, backend=self._video))
            return decoder.frames([first + int(frame) for frame in indices])
        except DataError as error:
            raise DataError(f"{key} of episode {row['episode_index']}: {error}") from error

    def _image_frames(self, row: Mapping[str, Any], key: str, indices: Sequence[int]) -> Tensor:
        path, start, _ = self._rows_of(row)
        file, ends = _kept(self._files, path, _KEPT_FILES, lambda: _row_groups(path))
        images = []
        for frame in indices:
            place = start + int(frame)
            group = int(np.searchsorted(ends, place, side="right"))
            read = partial(_read_row_group, file, group, key)
            column = _kept(self._row_groups, (path, key, group), _KEPT_ROW_GROUPS, read)
            offset = int(ends[group - 1]) if group else 0
            images.append(self._decode_image(column[place - offset].as_py(), path=path, key=key, row=row, frame=frame))
        return torch.stack(images)

    def _decode_image(
        self,
        entry: dict[str, Any] | None,
        *,
        path: Path,
        key: str,
        row: Mapping[str, Any],
        frame: int,
    ) -> Tensor:
        where = f"{path}: {key} of episode {row['episode_index']}, frame {frame}"
        data = entry.get("bytes") if isinstance(entry, dict) else None
        if data is None and isinstance(entry, dict) and entry.get("path"):
            outside = self._root / entry["path"]
            data = outside.read_bytes() if outside.is_file() else None
        if data is None:
            raise DataError(f"{where} must hold the bytes of an image, got {entry!r}. Fetch or write the set again.")
        try:
            with Image.open(io.BytesIO(data)) as image:
                pixels = np.array(image.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise DataError(f"{where} must be a readable image, got: {error}. Fetch or write the set again.") from error
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()

    def _decode_all(self) -> dict[str, Tensor]:
        cached: dict[str, Tensor] = {}
        shown = Console(stderr=True)
        rows = track(self._episodes, f"decoding {self._name}", console=shown, disable=not sys.stderr.isatty())
        for row in rows:
            for tag, key in self._views.items():
                frames = self._frames_of(row, key, range(row["length"]))
                if tag not in cached:
                    cached[tag] = frames.new_empty(self.num_frames, *frames.shape[1:])
                if frames.shape[1:] != cached[tag].shape[1:]:
                    raise DataError(
                        f"{key} must have one image size for cache_frames, got {tuple(cached[tag].shape[1:])} and "
                        f"{tuple(frames.shape[1:])} in episode {row['episode_index']}. Read without cache_frames."
                    )
                start = self._starts[row["episode_index"]]
                cached[tag][start : start + row["length"]] = frames
        self._forget_handles()
        return cached


def _read_info(root: Path) -> dict[str, Any]:
    path = root / INFO_PATH
    if not path.is_file():
        raise DataError(
            f"root must be a folder of the LeRobot v3.0 layout, got {root} without {INFO_PATH}. Check the path."
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} must be JSON, got: {error}. Fetch or write it again.") from error
    missing = [key for key in ("codebase_version", "fps", "features", "data_path") if key not in info]
    if missing:
        raise DataError(f"{path} must hold {missing}, got {sorted(info)}. Fetch or write it again.")
    version = str(info["codebase_version"])
    if not version.startswith("v3."):
        raise DataError(
            f"{path}: codebase_version must be v3.0, got {version}. Reading it is not supported yet; "
            "convert the set with lerobot's convert_dataset_v21_to_v30."
        )
    return dict(info)


def _parquet(path: Path) -> pq.ParquetFile:
    if not path.is_file():
        raise DataError(f"{path} must exist, but is missing. The data set is incomplete; fetch or write it again.")
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} must be a readable parquet file, got: {error}. Fetch or write it again.") from error


def _row_groups(path: Path) -> tuple[pq.ParquetFile, ndarray]:
    """An open file and the row after the last one of each row group."""
    file = _parquet(path)
    sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
    return file, np.cumsum(sizes)


def _read_row_group(file: pq.ParquetFile, group: int, key: str) -> pa.ChunkedArray:
    return file.read_row_group(group, columns=[key])[key]


def _is_large_string(kind: pa.DataType) -> bool:
    return bool(pa.types.is_large_string(kind))


def _kept(store: OrderedDict[_Key, _Value], key: _Key, size: int, make: Callable[[], _Value]) -> _Value:
    if key not in store:
        store[key] = make()
        if len(store) > size:
            store.popitem(last=False)
    store.move_to_end(key)
    return store[key]
