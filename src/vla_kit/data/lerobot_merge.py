"""Join finished LeRobot data sets, such as the shards of a parallel collection."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy import ndarray

from vla_kit.data.lerobot_layout import DATA_PATH, INDEX_FEATURES, VIDEO_PATH, read_table
from vla_kit.data.lerobot_stats import ColumnStatistics, array_statistics, pixel_histogram, pixel_statistics
from vla_kit.data.lerobot_writer import check_new_root, folder_beside, write_meta
from vla_kit.data.readers.lerobot import LeRobotSource
from vla_kit.errors import DataError, SettingError

__all__ = ["merge_lerobot"]

_CHUNK_SIZE: Final = 1000


def merge_lerobot(
    roots: Sequence[str | Path],
    out: str | Path,
    *,
    statistics: Mapping[str, Mapping[str, ndarray]] | None = None,
) -> None:
    """Join data sets of equal features and rate into a new one, episodes in the order of `roots`.

    Frames are copied as they are stored, nothing is encoded again. Episodes, frames and tasks are renumbered; the
    statistics of the whole are computed from all frames (of cameras: from the decoded pixels). As with the writer,
    `out` holds a whole data set in the end or nothing.

    Args:
        roots: Folders of finished data sets, left as they are.
        out: Folder to create. It may exist when empty.
        statistics: Feature -> its statistics over all data sets, where they are known, such as those of cameras, whose
            videos need not be decoded then.

    Raises:
        SettingError: If `roots` is empty or `out` holds something.
        DataError: If a data set is broken, or differs from the first in features, rate or robot.

    Examples:
        >>> import tempfile
        >>> from vla_kit.data.lerobot_writer import LeRobotWriter
        >>> folder = tempfile.TemporaryDirectory()
        >>> features = {"action": {"dtype": "float32", "shape": (2,)}}
        >>> for shard in ("a", "b"):
        ...     with LeRobotWriter(f"{folder.name}/{shard}", rate_hz=10, features=features) as writer:
        ...         writer.add_episode(np.ones((3, 2), dtype=np.float32), instruction=f"do {shard}")
        >>> merge_lerobot([f"{folder.name}/a", f"{folder.name}/b"], f"{folder.name}/both")
        >>> LeRobotSource(f"{folder.name}/both").episode(1).instruction
        'do b'
        >>> folder.cleanup()
    """
    if len(roots) == 0:
        raise SettingError("roots must hold at least one data set, got none. Give the folders to join.")
    out = Path(out).absolute()
    check_new_root(out)
    sources = [LeRobotSource(root) for root in roots]
    for source in sources[1:]:
        _check_alike(source, sources[0])
    folder = folder_beside(out)
    try:
        tasks: dict[str, int] = {}
        features = {key: value for key, value in sources[0].features.items() if key not in INDEX_FEATURES}
        write_meta(
            folder,
            features={**features, **INDEX_FEATURES},
            rate_hz=sources[0].rate_hz,
            robot_type=sources[0].info.get("robot_type"),
            tasks=tasks,
            episodes=_copy_all(sources, folder, tasks=tasks),
            statistics=partial(_statistics, folder, sources, features, known=statistics or {}),
        )
        check_new_root(out)
        folder.chmod(0o755)
        os.replace(folder, out)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_alike(source: LeRobotSource, like: LeRobotSource) -> None:
    for what, ours, theirs in (
        ("features", _bare(source.features), _bare(like.features)),
        ("rate_hz", source.rate_hz, like.rate_hz),
        ("robot_type", source.info.get("robot_type"), like.info.get("robot_type")),
    ):
        if ours != theirs:
            raise DataError(
                f"{source.root} must have the {what} of {like.root} ({theirs}), got {ours}. Join sets of one kind."
            )


def _bare(features: Mapping[str, Mapping[str, Any]]) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {key: (feature["dtype"], tuple(feature["shape"])) for key, feature in features.items()}


def _copy_all(sources: Sequence[LeRobotSource], folder: Path, *, tasks: dict[str, int]) -> Iterator[dict[str, Any]]:
    """Copy the files of all data sets under new numbers and collect their sentences; gives the rows of all episodes."""
    counters: dict[str, int] = {}
    first_episode = first_frame = 0
    for source in sources:
        yield from _copy(source, folder, tasks=tasks, first=(first_episode, first_frame), counters=counters)
        first_episode += len(source.lengths)
        first_frame += int(source.lengths.sum())


def _copy(
    source: LeRobotSource,
    folder: Path,
    *,
    tasks: dict[str, int],
    first: tuple[int, int],
    counters: dict[str, int],
) -> Iterator[dict[str, Any]]:
    """Copy the files of one data set under new numbers; gives the rows of its episodes."""
    first_episode, first_frame = first
    new_task = {index: tasks.setdefault(text, len(tasks)) for index, text in sorted(source.tasks.items())}
    moved: dict[tuple[str, int, int], int] = {}
    rows: list[dict[str, Any]] = []
    for path in sorted((source.root / "meta/episodes").glob("*/*.parquet")):
        rows += read_table(path).to_pylist()
    rows.sort(key=lambda row: int(row["episode_index"]))
    for row in rows:
        videos = [key for key in row if key.startswith("videos/") and key.endswith("/chunk_index")]
        for prefix in ["data", *(key.removesuffix("/chunk_index") for key in videos)]:
            old = (prefix, int(row[f"{prefix}/chunk_index"]), int(row[f"{prefix}/file_index"]))
            if old not in moved:
                moved[old] = counters.get(prefix, 0)
                counters[prefix] = moved[old] + 1
                _copy_file(source, folder, old, moved[old], (first_episode, first_frame), new_task)
            row[f"{prefix}/chunk_index"], row[f"{prefix}/file_index"] = divmod(moved[old], _CHUNK_SIZE)
        task_of_frame = [new_task[int(task)] for task in source.column(row["episode_index"], "task_index")[:, 0]]
        row["episode_index"] += first_episode
        row["dataset_from_index"] += first_frame
        row["dataset_to_index"] += first_frame
        row.setdefault("seed", None)
        renumbered = {
            "episode_index": np.full(row["length"], row["episode_index"]),
            "index": np.arange(row["dataset_from_index"], row["dataset_to_index"]),
            "task_index": np.array(task_of_frame),
        }
        for key, values in renumbered.items():
            for name, value in array_statistics(values[:, None]).items():
                row[f"stats/{key}/{name}"] = value.tolist()
        yield row


def _copy_file(
    source: LeRobotSource,
    folder: Path,
    old: tuple[str, int, int],
    number: int,
    shift: tuple[int, int],
    new_task: Mapping[int, int],
) -> None:
    prefix, old_chunk, old_file = old
    chunk, file = divmod(number, _CHUNK_SIZE)
    if prefix == "data":
        old_pattern, new_pattern, key = source.info["data_path"], DATA_PATH, ""
    else:
        old_pattern, new_pattern, key = source.info["video_path"], VIDEO_PATH, prefix.removeprefix("videos/")
    path = source.root / old_pattern.format(video_key=key, chunk_index=old_chunk, file_index=old_file)
    target = folder / new_pattern.format(video_key=key, chunk_index=chunk, file_index=file)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        raise DataError(f"{path} must exist, but is missing. The data set is incomplete; write it again.")
    if key:
        shutil.copyfile(path, target)
        return
    parquet = pq.ParquetFile(path)
    with pq.ParquetWriter(target, parquet.schema_arrow, compression="snappy") as writer:
        for group in range(parquet.metadata.num_row_groups):
            table = parquet.read_row_group(group)
            renumbered = {
                "episode_index": table["episode_index"].to_numpy() + shift[0],
                "index": table["index"].to_numpy() + shift[1],
                "task_index": np.array([new_task[int(task)] for task in table["task_index"].to_numpy()]),
            }
            for name, values in renumbered.items():
                place = table.schema.get_field_index(name)
                field = table.schema.field(place)
                table = table.set_column(place, field, pa.array(values, field.type))
            writer.write_table(table, row_group_size=len(table))


def _statistics(
    folder: Path,
    sources: Sequence[LeRobotSource],
    features: Mapping[str, Mapping[str, Any]],
    *,
    known: Mapping[str, Mapping[str, ndarray]],
) -> dict[str, Mapping[str, ndarray]]:
    cameras = [key for key, feature in features.items() if feature["dtype"] in ("image", "video")]
    numbers = [key for key in features if key not in cameras] + list(INDEX_FEATURES)
    result = dict(known)
    for key in numbers:
        if key in known:
            continue
        counted = ColumnStatistics()
        for path in sorted((folder / "data").glob("*/*.parquet")):
            column = read_table(path, [key])[key].combine_chunks()
            rows = len(column)
            while pa.types.is_nested(column.type):
                column = column.flatten()
            counted.add(column.to_numpy(zero_copy_only=False).reshape(rows, -1))
        result[key] = counted.result()
    for key in cameras:
        if key in known:
            continue
        histogram, count = np.zeros((3, 256), dtype=np.int64), 0
        for source in sources:
            for index, length in enumerate(source.lengths.tolist()):
                frames = source.images(index, key, range(length))
                histogram += pixel_histogram(frames.permute(0, 2, 3, 1).numpy())
                count += length
        result[key] = pixel_statistics(histogram, count=count)
    return result
