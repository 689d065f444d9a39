"""File names, columns and schemas of the LeRobot v3.0 layout, shared by reader, writer and merge."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vla_kit.errors import DataError, SettingError

__all__ = [
    "CODEBASE_VERSION",
    "DATA_PATH",
    "EPISODES_PATH",
    "INDEX_FEATURES",
    "INFO_PATH",
    "STATS_PATH",
    "TASKS_PATH",
    "VIDEO_PATH",
    "check_features",
    "data_schema",
    "read_table",
    "tasks_table",
]

CODEBASE_VERSION: Final = "v3.0"
INFO_PATH: Final = "meta/info.json"
STATS_PATH: Final = "meta/stats.json"
TASKS_PATH: Final = "meta/tasks.parquet"
EPISODES_PATH: Final = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DATA_PATH: Final = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH: Final = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

INDEX_FEATURES: Final[dict[str, dict[str, Any]]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}
"""Columns that every data set has."""

_SCALARS: Final[dict[str, Any]] = {
    "float32": pa.float32(),
    "float64": pa.float64(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "bool": pa.bool_(),
}
_IMAGE: Final = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def check_features(features: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Check features as a caller gives them and return them as `info.json` holds them.

    Args:
        features: Key -> `{"dtype", "shape", "names"}`. `dtype` is `image`, `video` (shape `(height, width, 3)`) or a
            number type (shape `(size,)`).

    Raises:
        SettingError: If `action` is absent, a key holds a slash or is reserved, a dtype or shape is unsupported, or
            there is not one name per number.

    Examples:
        >>> check_features({"action": {"dtype": "float32", "shape": (4,)}})["action"]
        {'dtype': 'float32', 'shape': [4], 'names': None}
    """
    if "action" not in features:
        raise SettingError(f"features must hold 'action', got {sorted(features)}. Name the action column 'action'.")
    checked: dict[str, dict[str, Any]] = {}
    for key, feature in features.items():
        if key in INDEX_FEATURES:
            raise SettingError(f"features must not hold {key!r}, which the writer fills itself. Leave it out.")
        if "/" in key:
            raise SettingError(f"features must have keys without '/', got {key!r}. Use dots.")
        dtype, shape, names = feature.get("dtype"), feature.get("shape", ()), feature.get("names")
        if not isinstance(shape, Sequence) or not all(
            isinstance(size, int | np.integer) and size > 0 for size in shape
        ):
            raise SettingError(f"features[{key!r}] must have a shape of sizes above 0, got {shape!r}. Such as (7,).")
        shape = tuple(int(size) for size in shape)
        if dtype in ("image", "video"):
            if len(shape) != 3 or shape[2] != 3:
                raise SettingError(
                    f"features[{key!r}] must have the shape (height, width, 3), got {shape}. Put the colours last."
                )
            if dtype == "video" and (shape[0] % 2 or shape[1] % 2):
                raise SettingError(
                    f"features[{key!r}] must have an even height and width for a video, got {shape}. "
                    'Resize the frames, or use "dtype": "image".'
                )
            names = names or ["height", "width", "channels"]
        elif dtype not in _SCALARS:
            raise SettingError(
                f"features[{key!r}] must have a dtype of {['image', 'video', *_SCALARS]}, got {dtype!r}. Choose one."
            )
        elif len(shape) != 1:
            raise SettingError(f"features[{key!r}] must have the shape (size,), got {shape}. Flatten each step.")
        elif names is not None and (not isinstance(names, list | tuple) or len(names) != shape[0]):
            raise SettingError(
                f"features[{key!r}] must have names for its {shape[0]} numbers, got {names!r}. Give a list, or none."
            )
        checked[key] = {"dtype": dtype, "shape": list(shape), "names": list(names) if names is not None else None}
    return checked


def data_schema(features: Mapping[str, Mapping[str, Any]]) -> pa.Schema:
    """Schema of the data files: every feature but videos, with the metadata that Hugging Face datasets reads.

    Args:
        features: As `info.json` holds them, index columns included.

    Examples:
        >>> data_schema({"action": {"dtype": "float32", "shape": [2], "names": None}}).field("action").type
        FixedSizeListType(fixed_size_list<item: float>[2])
    """
    fields: list[pa.Field] = []
    described: dict[str, dict[str, Any]] = {}
    for key, feature in features.items():
        dtype = feature["dtype"]
        if dtype == "video":
            continue
        if dtype == "image":
            fields.append(pa.field(key, _IMAGE))
            described[key] = {"_type": "Image"}
        elif list(feature["shape"]) == [1]:
            fields.append(pa.field(key, _SCALARS[dtype]))
            described[key] = {"dtype": dtype, "_type": "Value"}
        else:
            size = feature["shape"][0]
            fields.append(pa.field(key, pa.list_(_SCALARS[dtype], size)))
            described[key] = {"feature": {"dtype": dtype, "_type": "Value"}, "length": size, "_type": "List"}
    return pa.schema(fields, metadata={"huggingface": json.dumps({"info": {"features": described}})})


def tasks_table(sentences: list[str]) -> pa.Table:
    """The table of `tasks.parquet`: a pandas frame whose index is the sentence, as lerobot looks it up.

    Args:
        sentences: Instructions; the position is the `task_index`.

    Examples:
        >>> tasks_table(["open the door"]).column_names
        ['task_index', '__index_level_0__']
    """
    described = {
        "index_columns": ["__index_level_0__"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [
            {
                "name": "task_index",
                "field_name": "task_index",
                "pandas_type": "int64",
                "numpy_type": "int64",
                "metadata": None,
            },
            {
                "name": None,
                "field_name": "__index_level_0__",
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    table = pa.table(
        {
            "task_index": pa.array(range(len(sentences)), pa.int64()),
            "__index_level_0__": pa.array(sentences, pa.string()),
        }
    )
    return table.replace_schema_metadata({"pandas": json.dumps(described)})


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file whole.

    Args:
        path: Parquet file.
        columns: Columns to read; all where None.

    Raises:
        DataError: If the file is missing or broken, or has no such column.
    """
    if not path.is_file():
        raise DataError(f"{path} must exist, but is missing. The data set is incomplete; fetch or write it again.")
    try:
        table = pq.ParquetFile(path).read(columns=columns)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} must be a readable parquet file, got: {error}. Fetch or write it again.") from error
    missing = [key for key in columns or () if key not in table.column_names]
    if missing:
        raise DataError(f"{path} must hold the columns {columns}, got none of {missing}. Fetch or write it again.")
    return table
