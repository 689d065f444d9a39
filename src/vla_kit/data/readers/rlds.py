"""Read data sets in RLDS, the layout of Open X-Embodiment, without TensorFlow."""

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from vla_kit.data._name import check_name
from vla_kit.data._suggestion import suggestion
from vla_kit.data.episodes import EpisodeInfo
from vla_kit.data.readers._encoded_image import decode_image
from vla_kit.data.readers._finite import check_finite
from vla_kit.data.readers._rlds_features import RLDSColumn, read_features
from vla_kit.data.readers._rlds_records import IndexedRecord, StoredExample, StoredValues, index_records, read_example
from vla_kit.data.readers._shared_cache import ARRAYS, new_owner
from vla_kit.data.source import CameraInfo, ColumnInfo
from vla_kit.errors import DataError

__all__ = ["RLDSSource"]

FEATURES_PATH: Final = "features.json"
INFO_PATH: Final = "dataset_info.json"

_SHARD: Final = re.compile(r"(?P<set>.+)-(?P<split>[^-]+)\.tfrecord(-(?P<number>\d+)-of-(?P<total>\d+))?")
_VERSION: Final = re.compile(r"\d+\.\d+\.\d+")


class RLDSSource:
    """Reads a data set of TFRecord shards in the RLDS layout; satisfies `EpisodeSource`.

    Keys are the paths of `features.json` below `steps`: columns `action` or, where actions are named,
    `action/world_vector`, `observation/state`; cameras `observation/image_0`. A depth image, a nested sequence or a
    tensor of unknown shape is no column. Sentences come from `language_instruction`, from
    `observation/natural_language_instruction` in older sets, or from whatever text has such a name.

    Opening finds every record and reads the few bytes of it that hold its length and its sentence. An episode is one
    record, read and checked against its checksum as a whole when one of its frames is wanted. The episodes read last
    are kept with their images encoded, within what all sets of a process may keep. RLDS does not keep the rate.

    Args:
        root: Folder that holds `features.json` and the shards, or one above it with a single version.
        name: Name of the data set; the folder's name where None, or of the folder above where that is a version.
        split: Split to read, by its name in the names of the shards.

    Raises:
        DataError: If a file is missing, truncated or damaged, or the split is unknown.
        SettingError: If `name` is empty.

    Examples:
        >>> import tempfile
        >>> from tfrecord.writer import TFRecordWriter
        >>> folder = tempfile.TemporaryDirectory()
        >>> tensor = {"tensor": {"shape": {"dimensions": ["2"]}, "dtype": "float32", "encoding": "none"}}
        >>> steps = {"featuresDict": {"features": {"action": tensor, "language_instruction": {"text": {}}}}}
        >>> episode = {"featuresDict": {"features": {"steps": {"sequence": {"feature": steps}}}}}
        >>> _ = Path(folder.name, "features.json").write_text(json.dumps(episode))
        >>> writer = TFRecordWriter(f"{folder.name}/toy-train.tfrecord-00000-of-00001")
        >>> told = ([b"push", b"push"], "byte")
        >>> writer.write({"steps/action": ([0.0, 1.0, 2.0, 3.0], "float"), "steps/language_instruction": told})
        >>> writer.close()
        >>> source = RLDSSource(folder.name, name="toy")
        >>> source.column(0, "action").tolist(), source.instruction_at(0, 1)
        ([[0.0, 1.0], [2.0, 3.0]], 'push')
        >>> folder.cleanup()

    Source:
        RLDS, arXiv 2111.02767; TensorFlow Datasets, `example_serializer` for the encoding of each feature.
    """

    def __init__(self, root: str | Path, *, name: str | None = None, split: str = "train") -> None:
        check_name("name", name)
        self._root, self._split = _version_folder(Path(root)), split
        self._name = name if name is not None else _name_of(self._root)
        self._features = read_features(self._root / FEATURES_PATH)
        self._records: list[IndexedRecord] = []
        self._told: list[tuple[str, ...]] = []
        self._changing: set[int] = set()
        lengths: list[int] = []
        counted, size = self._counted()
        for path, expected in self._shards():
            before = len(self._records)
            for record, features in index_records(path, keys={counted, *self._features.sentences}):
                lengths.append(self._count(record, features.get(counted), key=counted, size=size))
                sentences = [_texts(features[key]) for key in self._features.sentences if key in features]
                if any(len(set(column)) > 1 for column in sentences):
                    self._changing.add(len(self._records))
                self._told.append(tuple(dict.fromkeys(text for column in sentences for text in column if text)))
                self._records.append(record)
            found = len(self._records) - before
            if expected is not None and found != expected:
                raise DataError(
                    f"{path} must hold {expected} records, as {INFO_PATH} says, got {found}. Fetch the shard again."
                )
        if not self._records:
            raise DataError(f"{self._root} must hold episodes in the split {split!r}, got none. Fetch the set again.")
        self._lengths = np.array(lengths, dtype=np.int64)
        self._owner = new_owner(self)

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self._name

    @property
    def location(self) -> str:
        """Folder of the data set."""
        return str(self._root)

    @property
    def rate_hz(self) -> float | None:
        """None: RLDS does not keep the rate."""
        return None

    @property
    def columns(self) -> dict[str, ColumnInfo]:
        """Columns of numbers by path below `steps`."""
        return {key: ColumnInfo(size=column.size) for key, column in self._features.columns.items()}

    @property
    def cameras(self) -> dict[str, CameraInfo]:
        """Cameras by path below `steps`. Those that a set fills with blank images are among them."""
        return dict(self._features.cameras)

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Steps of each episode."""
        return self._lengths.copy()

    @property
    def fingerprint(self) -> str:
        """Digest of `features.json` and of the checksums of all records."""
        digest = hashlib.sha256((self._root / FEATURES_PATH).read_bytes())
        digest.update(np.array([(record.size, record.checksum) for record in self._records]).tobytes())
        return digest.hexdigest()[:16]

    def episode(self, index: int) -> EpisodeInfo:
        """Length and sentences of an episode.

        Raises:
            DataError: If there is no such episode.
        """
        self._check_episode(index)
        return EpisodeInfo(index=index, length=int(self._lengths[index]), instructions=self._told[index])

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot was told at a step; empty where it was told nothing.

        Raises:
            DataError: If there is no such episode or step, or the sentences change and the record is damaged.
        """
        self._check_frames(index, [frame])
        if index not in self._changing:
            return self._told[index][0] if self._told[index] else ""
        for key in self._features.sentences:
            texts = _texts(self._example(index).values(key) or ())
            if len(texts) not in (0, 1, self._lengths[index]):
                record = self._records[index]
                raise DataError(
                    f"{record.path}: {key} of record {record.number} (episode {index}) must hold a sentence for each "
                    f"of the {self._lengths[index]} steps, got {len(texts)}. Drop the episode."
                )
            text = texts[frame if len(texts) > 1 else 0] if texts else ""
            if text:
                return text
        return ""

    def column(self, index: int, key: str) -> ndarray:
        """A column of an episode, `[step, size]`, in the type that the data set declares.

        Raises:
            DataError: If there is no such column or episode, the record is damaged, the column is ragged, or it holds
                NaN or infinity.
        """
        if key not in self._features.columns:
            raise DataError(self._unknown("column", key, self._features.columns))
        column = self._features.columns[key]
        stored, where = self._stored(index, key)
        values = np.array(stored) if column.encoding == "none" else _decode_numbers(stored, column, where)
        if len(values) != self._lengths[index] * column.size or len(values) == 0:
            raise DataError(
                f"{where} must hold {column.size} numbers for each of the {self._lengths[index]} steps, got "
                f"{len(values)} in all. Drop the episode."
            )
        try:
            numbers: ndarray = values.astype(column.dtype).reshape(-1, column.size)
        except ValueError as error:
            raise DataError(f"{where} must hold {column.dtype}, got: {error}. Correct {FEATURES_PATH}.") from error
        check_finite(numbers, where=where)
        return numbers

    def images(self, index: int, key: str, indices: Sequence[int]) -> UInt8[Tensor, "image 3 height image_width"]:
        """RGB frames of one camera of an episode, in the order of `indices`.

        Raises:
            DataError: If there is no such camera, episode or step, the record is damaged, or a frame is missing or
                cannot be decoded.
        """
        if key not in self._features.cameras:
            raise DataError(self._unknown("camera", key, self._features.cameras))
        self._check_frames(index, indices)
        stored, where = self._stored(index, key)
        encoded = [data for data in stored if isinstance(data, bytes)]
        if len(encoded) != self._lengths[index]:
            raise DataError(
                f"{where} must hold an image for each of the {self._lengths[index]} steps, got {len(encoded)}. "
                "Drop the episode."
            )
        if not len(indices):
            camera = self._features.cameras[key]
            return torch.empty(0, 3, camera.height or 0, camera.width or 0, dtype=torch.uint8)
        frames = {frame: decode_image(encoded[frame], where=f"{where}, step {frame}") for frame in {*indices}}
        if len({image.shape for image in frames.values()}) > 1:
            raise DataError(f"{where} must hold images of one size, got several. Drop the episode.")
        images = np.stack([frames[frame] for frame in indices])
        return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_owner"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._owner = new_owner(self)

    def _counted(self) -> tuple[str, int]:
        """The feature whose values tell the number of steps, the cheapest to read, and its values per step."""
        columns = self._features.columns
        plain = sorted((column.size, key) for key, column in columns.items() if column.encoding == "none")
        texts = [(1, key.removeprefix("steps/")) for key in self._features.sentences if key.startswith("steps/")]
        encoded = [(1, key) for key, column in columns.items() if column.encoding != "none"]
        choices = plain + texts + encoded + [(1, key) for key in self._features.cameras]
        if not choices:
            raise DataError(
                f"{self._root / FEATURES_PATH} must describe columns or cameras, got only {self._features.left_out}. "
                "The data set cannot be read."
            )
        return f"steps/{choices[0][1]}", choices[0][0]

    def _shards(self) -> list[tuple[Path, int | None]]:
        """The shards of the split in order, each with its number of records where `dataset_info.json` has it."""
        matches = [match for path in sorted(self._root.iterdir()) if (match := _SHARD.fullmatch(path.name)) is not None]
        shards = [match for match in matches if match["split"] == self._split]
        if not shards:
            splits = sorted({match["split"] for match in matches})
            raise DataError(
                f"split must be one of {splits}, which {self._root} has as TFRecord shards, got {self._split!r}. "
                "Choose one of them or fetch it."
            )
        shards.sort(key=lambda match: int(match["number"] or 0))
        numbers, total = [int(match["number"] or 0) for match in shards], int(shards[0]["total"] or 1)
        if numbers != list(range(total)):
            missing = sorted(set(range(total)) - set(numbers))
            raise DataError(
                f"{self._root} must hold the shards 0 to {total - 1} of {self._split!r} once each, got none of "
                f"{missing[:10]} and {len(numbers)} files. Fetch the missing shards."
            )
        expected = self._shard_lengths()
        counts: list[int | None] = [*expected] if len(expected) == total else [None] * total
        return [(self._root / match.string, count) for match, count in zip(shards, counts, strict=True)]

    def _shard_lengths(self) -> list[int]:
        path = self._root / INFO_PATH
        if not path.is_file():
            return []
        try:
            splits = json.loads(path.read_text(encoding="utf-8")).get("splits", [])
            found = [split.get("shardLengths", []) for split in splits if split["name"] == self._split]
            return [int(length) for length in found[0]] if found else []
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path} must list the splits, got: {error!r}. Fetch it again.") from error

    def _count(self, record: IndexedRecord, stored: StoredValues | None, *, key: str, size: int) -> int:
        values = 0 if stored is None else len(stored)
        if stored is None or values % size:
            raise DataError(
                f"{record.path}: record {record.number} must hold {size} values of {key} per step, got "
                f"{'none' if stored is None else values}. {FEATURES_PATH} is of another data set or the file is "
                "damaged; fetch both again."
            )
        return values // size

    def _example(self, index: int) -> StoredExample:
        self._check_episode(index)
        record = self._records[index]
        example: StoredExample = ARRAYS.get((self._owner, index), lambda: (read_example(record), record.size))
        return example

    def _stored(self, index: int, key: str) -> tuple[StoredValues, str]:
        values = self._example(index).values(f"steps/{key}")
        record = self._records[index]
        where = f"{record.path}: steps/{key} of record {record.number} (episode {index})"
        if values is None:
            raise DataError(f"{where} must be there, but the record lacks it. Drop the episode.")
        return values, where

    def _unknown(self, kind: str, key: str, choices: Mapping[str, object]) -> str:
        path = self._root / FEATURES_PATH
        remedy = suggestion(key, choices)
        if key in self._features.left_out:
            return f"{path}: {key} is no {kind}: {self._features.left_out[key]}. {remedy}"
        return f"{path} has no {kind} {key!r}. {remedy}"

    def _check_episode(self, index: int) -> None:
        if not 0 <= index < len(self._records):
            raise DataError(
                f"index must be an episode of {self._root} in [0, {len(self._records)}), got {index}. Choose one there."
            )

    def _check_frames(self, index: int, frames: Sequence[int]) -> None:
        self._check_episode(index)
        length = int(self._lengths[index])
        outside = [int(frame) for frame in frames if not 0 <= frame < length]
        if outside:
            raise DataError(
                f"frame must lie in [0, {length}) in episode {index} of {self._root}, got {outside[0]}. "
                "Choose one there."
            )


def _version_folder(root: Path) -> Path:
    if (root / FEATURES_PATH).is_file() or not root.is_dir():
        return root
    below = sorted(path.parent for path in root.glob(f"*/{FEATURES_PATH}"))
    if len(below) > 1:
        raise DataError(f"root must be the folder of one version, got {root} with {[p.name for p in below]}. Name one.")
    return below[0] if below else root


def _name_of(root: Path) -> str:
    resolved = root.absolute()
    return resolved.parent.name if _VERSION.fullmatch(resolved.name) else resolved.name


def _texts(values: StoredValues) -> list[str]:
    return [text.decode("utf-8", errors="replace").strip() for text in values if isinstance(text, bytes)]


def _decode_numbers(rows: StoredValues, column: RLDSColumn, where: str) -> ndarray:
    try:
        parts = [row for row in rows if isinstance(row, bytes)]
        parts = [zlib.decompress(row) for row in parts] if column.encoding == "zlib" else parts
        return np.frombuffer(b"".join(parts), dtype=column.dtype)
    except (ValueError, zlib.error) as error:
        raise DataError(
            f"{where} must hold {column.encoding} of {column.dtype}, got: {error}. Fetch it again."
        ) from error
