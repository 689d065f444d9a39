"""Records of TFRecord files: where they lie, what they hold, and whether they are whole."""

import mmap
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from vla_kit.errors import DataError, MissingExtraError

try:
    from crc32c import crc32c
    from tfrecord.example_pb2 import Example, Feature
except ImportError as error:
    raise MissingExtraError("tfrecord", extra="rlds") from error
except TypeError:  # TensorFlow is loaded and has given these message names to protobuf already
    from tensorflow.core.example.example_pb2 import Example
    from tensorflow.core.example.feature_pb2 import Feature

__all__ = ["IndexedRecord", "StoredExample", "StoredValues", "index_records", "read_example"]

StoredValues = Sequence[bytes] | Sequence[float] | Sequence[int]
"""The values of one feature, flat."""

_HEADER: Final = 12  # length and its checksum
_FOOTER: Final = 4  # checksum of the data


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexedRecord:
    """A record that was found, not read.

    Args:
        path: File.
        number: Number of the record in its file.
        offset: Where its data begin [byte].
        size: Length of its data [byte].
        checksum: Checksum of its data, as stored.
    """

    path: Path
    number: int
    offset: int
    size: int
    checksum: int


class StoredExample:
    """A `tf.train.Example`: flat lists of values by key.

    Args:
        data: The message as bytes.

    Examples:
        >>> from tfrecord.writer import TFRecordWriter
        >>> data = TFRecordWriter.serialize_tf_example({"steps/action": ([0.5, 1.0], "float")})
        >>> list(StoredExample(data).values("steps/action")), StoredExample(data).values("steps/reward")
        ([0.5, 1.0], None)
    """

    def __init__(self, data: bytes) -> None:
        self._features = Example.FromString(data).features.feature

    def values(self, key: str) -> StoredValues | None:
        """The values of a feature; None where there is no such feature."""
        return _values(self._features[key]) if key in self._features else None


def index_records(path: Path, *, keys: Collection[str]) -> Iterator[tuple[IndexedRecord, dict[str, StoredValues]]]:
    """Find the records of a file, with a few of the features of each.

    Nothing else of a record is read: the scan steps over images from length to length, which makes an index of a set
    of a hundred gigabytes affordable. Lengths are checked against their checksums; the data are when they are read.

    Args:
        path: File in the TFRecord format, uncompressed.
        keys: Features whose values to return, where the record has them.

    Raises:
        DataError: If the file is missing, truncated, compressed, or no TFRecord file of `tf.train.Example`s.

    Examples:
        >>> list(index_records(Path("missing.tfrecord"), keys=[]))
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: missing.tfrecord must be a readable file, got: ...
    """
    try:
        size = path.stat().st_size
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} must be a readable file, got: {error}. Fetch it again.") from error
    if size == 0:
        file.close()
        return
    with file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if hasattr(mmap, "MADV_RANDOM"):
            data.madvise(mmap.MADV_RANDOM)  # no reading ahead into images that are stepped over
        start, number = 0, 0
        while start < size:
            where = f"{path}: record {number} at byte {start}"
            header = data[start : start + _HEADER]
            if len(header) == _HEADER and _masked(header[:8]) != int.from_bytes(header[8:], "little"):
                raise DataError(
                    f"{where} must match the checksum of its length. The file is damaged, compressed or no TFRecord "
                    "file; fetch it again or decompress it."
                )
            length = int.from_bytes(header[:8], "little")
            begin = start + _HEADER
            end = begin + length
            if len(header) < _HEADER or end + _FOOTER > size:
                raise DataError(
                    f"{where} must be whole, but the file ends at byte {size}. It is truncated; fetch it again."
                )
            checksum = int.from_bytes(data[end : end + _FOOTER], "little")
            record = IndexedRecord(path=path, number=number, offset=begin, size=length, checksum=checksum)
            try:
                found = {
                    key: _values(Feature.FromString(data[first:last]))
                    for key, first, last in _features(data, begin, end)
                    if key in keys
                }
            except Exception as error:  # whatever protobuf says about bytes that are no message
                raise DataError(f"{where} must be a tf.train.Example, got: {error}. Fetch the file again.") from error
            yield record, found
            start, number = end + _FOOTER, number + 1


def read_example(record: IndexedRecord) -> StoredExample:
    """Read a record and check it.

    Raises:
        DataError: If the data are missing or do not match their checksum.
    """
    where = f"{record.path}: record {record.number} at byte {record.offset - _HEADER}"
    try:
        with record.path.open("rb") as file:
            file.seek(record.offset)
            data = file.read(record.size)
    except OSError as error:
        raise DataError(f"{where} must be readable, got: {error}. Fetch the file again.") from error
    if len(data) != record.size or _masked(data) != record.checksum:
        raise DataError(f"{where} must match its checksum. The file is damaged; fetch it again or drop the episode.")
    return StoredExample(data)


def _values(feature: Feature) -> StoredValues:
    kind = feature.WhichOneof("kind")
    values: StoredValues = getattr(feature, kind).value if kind else ()
    return values


def _masked(data: bytes) -> int:
    checksum = crc32c(data)
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _features(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[str, int, int]]:
    """Key of each feature of an Example, and where its message lies."""
    for _, features_start, features_stop in _fields(data, start, stop):
        for _, entry_start, entry_stop in _fields(data, features_start, features_stop):
            entry = {number: (first, last) for number, first, last in _fields(data, entry_start, entry_stop)}
            key_start, key_stop = entry[1]
            first, last = entry.get(2, (entry_stop, entry_stop))
            yield data[key_start:key_stop].decode(), first, last


def _fields(data: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Number and place of each field of a message whose fields are all messages or strings."""
    while start < stop:
        tag, start = _varint(data, start)
        length, start = _varint(data, start)
        if tag & 7 != 2 or start + length > stop:
            raise ValueError(f"a field {tag >> 3} of the wire type {tag & 7} and {length} bytes")
        yield tag >> 3, start, start + length
        start += length


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
