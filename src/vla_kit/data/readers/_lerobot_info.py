"""What `meta/info.json` of a LeRobot set says, in every version of the layout."""

import json
import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from vla_kit.data.fingerprint import fingerprint_files
from vla_kit.data.lerobot_layout import INFO_PATH, STATS_PATH
from vla_kit.data.source import CameraInfo, ColumnInfo
from vla_kit.errors import DataError

__all__ = [
    "TaskLists",
    "cameras_of",
    "columns_of",
    "fingerprint_of",
    "language_key",
    "read_info",
    "read_published_statistics",
    "sentences_only",
]

_NUMBERS: Final = ("bool", "int", "uint", "float", "double", "half")
_NOT_A_SENTENCE: Final = ("valid", "invalid")


def read_info(root: Path, *, needed: Sequence[str] = ("codebase_version", "features", "fps")) -> dict[str, Any]:
    """Read and check `meta/info.json`.

    Args:
        root: Folder of the data set.
        needed: Keys that it must hold.

    Raises:
        DataError: If there is no such folder, or the file is missing, broken or lacks a key.
    """
    path = root / INFO_PATH
    if not path.is_file():
        raise DataError(
            f"root must be a folder of the LeRobot layout, got {root}: there is no {path}. Give the folder that holds "
            "meta, data and videos."
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} must be JSON, got: {error}. Fetch or write the set again.") from error
    if not isinstance(info, dict) or any(key not in info for key in needed):
        found = sorted(info) if isinstance(info, dict) else type(info).__name__
        raise DataError(f"{path} must hold {list(needed)}, got {found}. Fetch or write it again.")
    features, fps = info["features"], info["fps"]
    if not isinstance(features, dict) or not all(isinstance(value, dict) for value in features.values()):
        raise DataError(f"{path}: features must be described by key, got {features!r}. Fetch or write it again.")
    undescribed = [key for key, feature in features.items() if "dtype" not in feature]
    if undescribed:
        raise DataError(f"{path}: features must have a dtype, got none for {undescribed}. Fetch or write it again.")
    for key, feature in features.items():
        shape = feature.get("shape")
        if shape is not None and not (isinstance(shape, list) and all(isinstance(size, int) for size in shape)):
            raise DataError(f"{path}: shape of {key} must be a list of sizes, got {shape!r}. Fetch or write it again.")
    if not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise DataError(f"{path}: fps must be above 0, got {fps!r}. Write the frames per second there.")
    return info


def columns_of(features: Mapping[str, Mapping[str, Any]]) -> dict[str, ColumnInfo]:
    """Columns of numbers among features; matrices count as flat, texts not at all.

    Examples:
        >>> columns_of({"action": {"dtype": "float32", "shape": [2], "names": {"motors": ["hip", "knee"]}}})
        {'action': ColumnInfo(size=2, names=('hip', 'knee'))}
    """
    columns = {}
    for key, feature in features.items():
        if str(feature["dtype"]).startswith(_NUMBERS):
            shape = feature.get("shape") or ()
            size = math.prod(int(side) for side in shape)
            columns[key] = ColumnInfo(size=size, names=_names(feature.get("names"), size))
    return columns


def cameras_of(features: Mapping[str, Mapping[str, Any]]) -> dict[str, CameraInfo]:
    """Cameras among features.

    Examples:
        >>> cameras_of({"top": {"dtype": "video", "shape": [3, 96, 128], "names": ["channel", "height", "width"]}})
        {'top': CameraInfo(height=96, width=128, video=True)}
    """
    cameras = {}
    for key, feature in features.items():
        if feature["dtype"] in ("image", "video"):
            height, width = _size(feature.get("shape"), feature.get("names"))
            cameras[key] = CameraInfo(height=height, width=width, video=feature["dtype"] == "video")
    return cameras


def language_key(features: Mapping[str, Mapping[str, Any]], *, language: str | None, where: Path) -> str | None:
    """The column that says what the robot was told.

    Some sets list more than sentences as tasks: those of GR00T put `valid` there, and say in columns of their own
    which task is what. Where exactly one column `annotation...task_description` exists, it is taken; else
    `task_index`, as LeRobot does.

    Args:
        features: As `info.json` describes them.
        language: Column that the caller wants, if any.
        where: File that describes the features, for messages.

    Returns:
        Key of a column of task indices or of texts; None where the set has no language.

    Raises:
        DataError: If there is no such column.

    Examples:
        >>> scalar = {"dtype": "int64", "shape": [1]}
        >>> language_key({"task_index": scalar}, language=None, where=Path("info.json"))
        'task_index'
    """
    texts = sorted(key for key, feature in features.items() if _may_tell(key, feature))
    if language is not None:
        if language not in texts:
            raise DataError(
                f"language must be a column of task indices or texts of {where}, got {language!r}. Choose one of "
                f"{texts}."
            )
        return language
    described = [key for key in texts if key.startswith("annotation.") and key.endswith("task_description")]
    if len(described) == 1:
        return described[0]
    return "task_index" if "task_index" in texts else None


class TaskLists:
    """The sentences of many episodes, each kept once.

    Args:
        lists: Sentences of each episode.

    Examples:
        >>> TaskLists([["push"], ["push", "pull"]])[1]
        ('push', 'pull')
    """

    def __init__(self, lists: Iterable[Sequence[str]]) -> None:
        places: dict[str, int] = {}
        numbers, ends = array("l"), array("l", [0])
        for sentences in lists:
            numbers.extend(places.setdefault(sentence, len(places)) for sentence in sentences)
            ends.append(len(numbers))
        self._texts = list(places)
        self._numbers, self._ends = numbers, ends

    def __getitem__(self, index: int) -> tuple[str, ...]:
        return tuple(self._texts[number] for number in self._numbers[self._ends[index] : self._ends[index + 1]])


def sentences_only(tasks: Sequence[str], features: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """Tasks of an episode without the marks that GR00T's sets put among them."""
    if any(key.startswith("annotation.") and key.endswith("validity") for key in features):
        return tuple(task for task in tasks if task.strip().lower() not in _NOT_A_SENTENCE)
    return tuple(tasks)


def read_published_statistics(root: Path) -> dict[str, dict[str, Any]]:
    """What `meta/stats.json` claims: feature -> statistic -> values; empty where there is no such file.

    Raises:
        DataError: If the file is broken.
    """
    path = root / STATS_PATH
    if not path.is_file():
        return {}
    try:
        stats = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} must be JSON, got: {error}. Delete the file, or fetch the set again.") from error
    if not isinstance(stats, dict):
        raise DataError(f"{path} must hold statistics by feature, got {type(stats).__name__}. Delete the file.")
    return {key: value for key, value in stats.items() if isinstance(value, dict)}


def fingerprint_of(root: Path) -> str:
    """Digest of a data set: all of its metadata, and names, sizes and ends of its data and video files."""
    paths = (path for folder in ("meta", "data", "videos") for path in (root / folder).rglob("*.*"))
    return fingerprint_files(root, paths, whole=lambda path: path.relative_to(root).parts[0] == "meta")


def _may_tell(key: str, feature: Mapping[str, Any]) -> bool:
    dtype, scalar = str(feature["dtype"]), math.prod(feature.get("shape") or (1,)) == 1
    if dtype in ("string", "str", "object", "large_string"):
        return scalar
    return scalar and (key == "task_index" or key.startswith("annotation."))


def _names(names: object, size: int) -> tuple[str, ...] | None:
    if isinstance(names, Mapping):
        if len(names) == 1:  # {"motors": [...]}
            return _names(next(iter(names.values())), size)
        places = {name: int(place) for name, place in names.items() if isinstance(place, int)}
        if sorted(places.values()) == list(range(size)):  # {"x": 0, "y": 1}
            names = sorted(places, key=lambda name: places[name])
    if isinstance(names, Sequence) and not isinstance(names, str) and len(names) == size:
        return tuple(str(name) for name in names)
    return None


def _size(shape: object, names: object) -> tuple[int | None, int | None]:
    if not isinstance(shape, Sequence) or len(shape) != 3:
        return None, None
    if isinstance(names, Sequence) and "height" in names and "width" in names and len(names) == 3:
        return int(shape[list(names).index("height")]), int(shape[list(names).index("width")])
    if shape[2] in (1, 3, 4):
        return int(shape[0]), int(shape[1])
    return (int(shape[1]), int(shape[2])) if shape[0] in (1, 3, 4) else (None, None)
