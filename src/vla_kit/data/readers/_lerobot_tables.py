"""Rows of LeRobot's parquet files as arrays, and the check that they are an episode."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float, Int
from numpy import ndarray
from PIL import Image

from vla_kit.errors import DataError

__all__ = [
    "ColumnRows",
    "find_runs",
    "open_parquet",
    "packed",
    "picture",
    "read_rows",
    "unpack",
    "wrong_frames",
    "wrong_times",
]

_CLIPPED: Final = ("1", "F", "I", "I;16", "I;16B", "I;16L")


@dataclass(frozen=True, slots=True)
class ColumnRows:
    """Some rows of a column of numbers.

    Args:
        values: One row per frame.
        broken: True where a row is not fit for use; None where all are.
        reasons: Row -> what is wrong with its shape. Broken rows without an entry hold NaN or infinity.
    """

    values: ndarray
    broken: ndarray | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.values)


def open_parquet(path: Path) -> pq.ParquetFile:
    """Open a parquet file.

    Raises:
        DataError: If it is missing or broken.
    """
    try:
        return pq.ParquetFile(path)
    except FileNotFoundError:
        raise DataError(
            f"{path} must exist, but is missing. The data set is incomplete; fetch or write it again."
        ) from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} must be a readable parquet file, got: {error}. Fetch or write it again.") from error


def read_rows(file: pq.ParquetFile, path: Path, key: str, *, group: int | None = None) -> pa.ChunkedArray:
    """A column of an open file, or of one of its row groups.

    Raises:
        DataError: If there is no such column or it cannot be read.
    """
    if key not in file.schema_arrow.names:
        raise DataError(f"{path} must hold the column {key!r}, got {file.schema_arrow.names}. Choose one of them.")
    try:
        if group is None:
            return file.read(columns=[key], use_threads=False)[key]
        return file.read_row_group(group, columns=[key], use_threads=False)[key]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: {key} must be readable, got: {error}. Fetch or write the file again.") from error


def unpack(column: pa.ChunkedArray, *, size: int, path: Path, key: str) -> ColumnRows:
    """Numbers of a column as an array of `size` entries per row, in the dtype that is stored.

    Lists in lists count as flat. Rows that are null, hold nulls, NaN or infinity, or have another size are marked.

    Raises:
        DataError: If no row has this size, or the column does not hold numbers.
    """
    rows = len(column)
    nulls, flat, width = column.null_count, column, 1
    while _is_list(flat.type):
        sizes = {0 if entry is None else int(entry) for entry in pc.unique(pc.list_value_length(flat)).to_pylist()}
        width *= max(sizes, default=0)
        ragged = len(sizes) > 1
        flat = pc.list_flatten(flat)
        nulls += flat.null_count
        if ragged:
            while _is_list(flat.type):
                flat = pc.list_flatten(flat)
            return _repair(column, flat.type, size=size)
    if not (pa.types.is_floating(flat.type) or pa.types.is_integer(flat.type) or pa.types.is_boolean(flat.type)):
        raise DataError(
            f"{path}: {key} must hold numbers only, got the type {column.type}. Fetch or write the set again."
        )
    if nulls:
        return _repair(column, flat.type, size=size)
    if rows and width != size:
        raise DataError(
            f"{path}: {key} must have {size} entries per step, as meta/info.json says, got {width}. "
            "Fetch or write the set again."
        )
    values: ndarray = flat.to_numpy().reshape(rows, size)
    if values.dtype.kind != "f":
        return ColumnRows(values)
    finite = np.isfinite(values)
    return ColumnRows(values) if finite.all() else ColumnRows(values, ~finite.all(axis=1))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _repair(column: pa.ChunkedArray, kind: pa.DataType, *, size: int) -> ColumnRows:
    values = np.zeros((len(column), size), dtype=kind.to_pandas_dtype())
    broken, reasons = np.zeros(len(column), dtype=bool), {}
    for row, entry in enumerate(column.to_pylist()):
        entries = np.ravel(np.array(entry, dtype=object)) if entry is not None else np.array([None])
        if len(entries) != size or any(isinstance(number, list) for number in entries):
            reasons[row] = f"have {size} entries per step, as meta/info.json says, got {len(entries)}"
        elif any(number is None for number in entries):
            reasons[row] = "hold numbers only, got null"
        else:
            values[row] = entries
            broken[row] = values.dtype.kind == "f" and not np.isfinite(values[row]).all()
    broken[list(reasons)] = True
    return ColumnRows(values, broken, reasons)


def find_runs(numbers: Int[ndarray, " row"]) -> dict[int, list[tuple[int, int]]]:
    """Where equal numbers stand in a row: number -> (first row, row after the last) of each run.

    Examples:
        >>> find_runs(np.array([4, 4, 7, 4]))
        {4: [(0, 2), (3, 4)], 7: [(2, 3)]}
    """
    edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    runs: dict[int, list[tuple[int, int]]] = {}
    for start, stop in pairwise(edges):
        if stop > start:
            runs.setdefault(int(numbers[start]), []).append((start, stop))
    return runs


def wrong_frames(frames: Int[ndarray, " row"]) -> str:
    """What is wrong with the frame numbers of an episode; empty where they count 0, 1, 2, ...

    Examples:
        >>> wrong_frames(np.array([0, 1, 3]))
        'frame_index must count 0, 1, 2, ..., got 3 at row 2 of the episode'
    """
    wrong = np.flatnonzero(frames != np.arange(len(frames)))
    if not len(wrong):
        return ""
    return f"frame_index must count 0, 1, 2, ..., got {frames[wrong[0]]} at row {wrong[0]} of the episode"


def wrong_times(times: Float[ndarray, " row"], *, rate_hz: float, tolerance_s: float) -> str:
    """What is wrong with the times of an episode's frames; empty where they advance by a frame each.

    They may begin anywhere. From one frame to the next `tolerance_s` is allowed (and what float32 cannot tell apart);
    from the first frame to any other half a frame.

    Args:
        times: When each frame was taken [s].
        rate_hz: Frames per second.
        tolerance_s: Tolerance from frame to frame [s].

    Examples:
        >>> wrong_times(np.array([0.0, 0.1, 0.3]), rate_hz=10, tolerance_s=1e-4)
        'timestamp must advance by 0.1 s a frame (within 0.0001 s), got 0.2 s up to frame 2'
    """
    times = np.asarray(times, dtype=np.float64)
    if not len(times):
        return ""
    limit = tolerance_s + 2 * float(np.spacing(np.float32(np.abs(times).max())))
    steps = np.diff(times)
    wrong = np.flatnonzero(~(np.abs(steps - 1 / rate_hz) <= limit))
    if len(wrong) or not np.isfinite(times[0]):
        frame = int(wrong[0]) + 1 if len(wrong) else 0
        return (
            f"timestamp must advance by {1 / rate_hz:.6g} s a frame (within {tolerance_s:g} s), got "
            f"{steps[frame - 1] if frame else times[0]:.6g} s up to frame {frame}"
        )
    drift = times - times[0] - np.arange(len(times)) / rate_hz
    late = np.flatnonzero(~(np.abs(drift) * rate_hz <= 0.5))
    if len(late):
        return (
            f"timestamp must keep {rate_hz:g} frames per second, got {drift[late[0]]:+.6g} s of drift at frame "
            f"{late[0]}"
        )
    return ""


def picture(data: bytes, where: str) -> ndarray:
    """Decode an image file to RGB pixels, `[height, width, 3]`.

    Args:
        data: What the file holds.
        where: File, key, episode and frame, for messages.

    Raises:
        DataError: If it is no image, or one whose levels do not fit into 8 bits.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in _CLIPPED:
                raise DataError(
                    f"{where} must be a colour or gray image of 8 bits, got the mode {image.mode}. Depth is no view."
                )
            return np.array(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{where} must be a readable image, got: {error}. Fetch or write the set again.") from error


def packed(column: pa.ChunkedArray) -> tuple[Any, int]:
    """A column of images or texts as it is stored, with its bytes."""
    array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return array, array.nbytes
