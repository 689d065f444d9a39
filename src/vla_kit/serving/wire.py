"""Messages as openpi's clients write them: msgpack, in which a NumPy array is a map of four entries."""

import math
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from vla_kit.errors import DataError, MissingExtraError

try:
    import msgpack
except ImportError as error:
    raise MissingExtraError("msgpack", extra="serving") from error

__all__ = ["pack_message", "unpack_message"]

_ARRAY: Final = b"__ndarray__"
_SCALAR: Final = b"__npgeneric__"
_DTYPE: Final = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")  # numbers only: no objects, no structures, no text
_MAX_AXES: Final = 8
_MAX_LIST: Final = 1024
_MAX_MAP: Final = 256
_MAX_CONTAINERS: Final = 1024  # a byte may stand for an empty list of 56, so their number needs a limit of its own


def pack_message(message: Mapping[str, Any]) -> bytes:
    """Write a message.

    Args:
        message: Names to numbers, texts, bytes, lists, further maps, and NumPy arrays or scalars of numbers.

    Returns:
        Bytes that `openpi-client` reads, equal to those that it would write.

    Raises:
        DataError: If an array holds something other than numbers.
        TypeError: If a value is of a type that msgpack does not know.

    Examples:
        >>> pack_message({"a": 1}).hex(" ")
        '81 a1 61 01'

    Source:
        The format of openpi's `openpi_client.msgpack_numpy` (github.com/Physical-Intelligence/openpi).
    """
    packed: bytes = msgpack.packb(message, default=_encode)
    return packed


def unpack_message(data: bytes) -> dict[str, Any]:
    """Read a message from somebody who need not be trusted.

    Nothing in it can run code: arrays are rebuilt from a list of number types, and their sizes must fit their bytes.
    The number of lists and maps is limited, so a short message cannot become large.

    Args:
        data: The bytes.

    Returns:
        The message; arrays are writable and own their memory.

    Raises:
        DataError: If the bytes are no such message.

    Examples:
        >>> unpack_message(pack_message({"state": np.array([1.0, 2.0])}))
        {'state': array([1., 2.])}
    """
    decode = _Decoder()
    try:
        message = msgpack.unpackb(
            data,
            object_hook=decode.map,
            list_hook=decode.list,
            max_array_len=_MAX_LIST,
            max_map_len=_MAX_MAP,
            max_ext_len=0,
        )
    except DataError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise DataError(
            f"message must be one msgpack map, got {len(data)} bytes that are not ({_reason(error)}). "
            "Pack it with openpi_client or pack_message."
        ) from error
    if not isinstance(message, dict):
        raise DataError(f"message must be a map, got {type(message).__name__}. Send a dict of named values.")
    return message


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _encode(value: Any) -> Any:  # noqa: ANN401 (msgpack hands over what it does not know)
    if isinstance(value, np.ndarray | np.generic) and not _DTYPE.fullmatch(value.dtype.str):
        raise DataError(f"arrays must hold numbers, got dtype {value.dtype}. Convert them first.")
    if isinstance(value, np.ndarray):
        return {_ARRAY: True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        return {_SCALAR: True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"a message must hold numbers, texts, bytes, lists, maps and arrays, got {type(value).__name__}")


class _Decoder:
    """Rebuilds arrays while msgpack reads, and counts lists and maps."""

    def __init__(self) -> None:
        self._containers = 0

    def list(self, values: list[Any]) -> list[Any]:
        self._count()
        return values

    def map(self, entries: dict[Any, Any]) -> Any:  # noqa: ANN401 (a map, an array or a number)
        self._count()
        if _ARRAY in entries:
            return _array(entries)
        if _SCALAR in entries:
            return _dtype(entries).type(entries.get(b"data"))
        return entries

    def _count(self) -> None:
        self._containers += 1
        if self._containers > _MAX_CONTAINERS:
            raise DataError(f"message must hold at most {_MAX_CONTAINERS} lists and maps. Send numbers as arrays.")


def _dtype(entries: Mapping[Any, Any]) -> np.dtype[Any]:
    name = entries.get(b"dtype")
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise DataError(
            f"dtype of an array must be that of bool, int or float numbers, got {name!r}. Convert it first."
        )
    return np.dtype(name)


def _array(entries: Mapping[Any, Any]) -> np.ndarray:
    dtype, data, shape = _dtype(entries), entries.get(b"data"), entries.get(b"shape")
    sizes = shape if isinstance(shape, list) else []
    if len(sizes) > _MAX_AXES or not all(type(size) is int and size >= 0 for size in sizes) or sizes is not shape:
        raise DataError(f"shape of an array must be a list of at most {_MAX_AXES} sizes, got {shape!r}.")
    if not isinstance(data, bytes) or len(data) != math.prod(sizes) * dtype.itemsize:
        raise DataError(
            f"data of an array of shape {tuple(sizes)} and dtype {dtype} must hold "
            f"{math.prod(sizes) * dtype.itemsize} bytes, got {len(data) if isinstance(data, bytes) else type(data)}."
        )
    return np.frombuffer(data, dtype=dtype).reshape(sizes).copy()
