"""What the `features.json` of an RLDS data set says: its columns, cameras and sentences."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from vla_kit.data.source import CameraInfo
from vla_kit.errors import DataError

__all__ = ["RLDSColumn", "RLDSFeatures", "read_features"]

_INTEGERS: Final = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_NUMBERS: Final = ("bool", *_INTEGERS, "float16", "bfloat16", "float32", "float64")
_LARGEST_ROW: Final = 1024  # more numbers per frame are a depth map or a point cloud
_SENTENCES: Final = ("language_instruction", "natural_language_instruction", "instruction")


@dataclass(frozen=True, slots=True, kw_only=True)
class RLDSColumn:
    """How a column of numbers is stored.

    Args:
        size: Numbers per step.
        dtype: Their type, as the data set declares it.
        encoding: `none` for numbers, `bytes` or `zlib` for one byte string per step.
    """

    size: int
    dtype: np.dtype[Any]
    encoding: str = "none"


@dataclass(frozen=True, kw_only=True)
class RLDSFeatures:
    """The features of the steps of an RLDS data set, by path.

    Args:
        columns: Columns of numbers.
        cameras: Colour images of 8 bits.
        sentences: Features of an Example that hold what the robot was told, the preferred one first.
        left_out: Features that are none of these, and why.
    """

    columns: dict[str, RLDSColumn] = field(default_factory=dict)
    cameras: dict[str, CameraInfo] = field(default_factory=dict)
    sentences: tuple[str, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)


def read_features(path: Path) -> RLDSFeatures:
    """Read a `features.json`, as TensorFlow Datasets writes it.

    Args:
        path: The file.

    Raises:
        DataError: If the file is missing, no JSON, or describes no steps.

    Examples:
        >>> read_features(Path("missing/features.json"))
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: missing/features.json must describe the steps of an RLDS data set, but is missing. ...
    """
    if not path.is_file():
        raise DataError(
            f"{path} must describe the steps of an RLDS data set, but is missing. "
            "Give the folder of a version, which holds it beside the shards, or fetch it."
        )
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path} must be JSON, got: {error}. Fetch it again.") from error
    try:
        return _described(tree, path)
    except (AttributeError, TypeError, KeyError, IndexError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} must describe features as TensorFlow Datasets does, got {type(error).__name__}: {error}. Fetch it "
            "again."
        ) from error


def _described(tree: Mapping[str, Any], path: Path) -> RLDSFeatures:
    """Which feature is what."""
    episode = _children(tree)
    steps = episode.get("steps", {}).get("sequence", {}).get("feature")
    if not isinstance(steps, dict) or "featuresDict" not in steps:
        raise DataError(
            f"{path} must hold a sequence 'steps' of named features, got {sorted(episode) or sorted(tree)}. "
            "Only data sets of the RLDS layout can be read."
        )
    found = RLDSFeatures()
    texts = []
    for key, feature in _leaves(steps, ""):
        if _is_text(feature):
            texts.append(f"steps/{key}")
        else:
            _sort_in(found, key, feature)
    others = {key: feature for key, feature in episode.items() if key != "steps"}
    for name, child in others.items():
        texts += [key for key, feature in _leaves(child, name) if _is_text(feature)]
    told = sorted((text for text in texts if _may_be_told(text)), key=_preference)
    return RLDSFeatures(columns=found.columns, cameras=found.cameras, sentences=tuple(told), left_out=found.left_out)


def _children(feature: Mapping[str, Any]) -> dict[str, Any]:
    return dict(feature.get("featuresDict", {}).get("features", {}))


def _leaves(feature: Mapping[str, Any], key: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if "featuresDict" in feature:
        for name, child in _children(feature).items():
            yield from _leaves(child, f"{key}/{name}" if key else name)
    else:
        yield key, feature


def _is_text(feature: Mapping[str, Any]) -> bool:
    tensor = feature.get("tensor", {})
    return "text" in feature or (tensor.get("dtype") in ("string", "object") and not _shape(tensor))


def _may_be_told(key: str) -> bool:
    return bool(re.search("instruction|language", key.rsplit("/", maxsplit=1)[-1]))


def _preference(key: str) -> tuple[bool, int, str]:
    name = key.rsplit("/", maxsplit=1)[-1]
    rank = _SENTENCES.index(name) if name in _SENTENCES else len(_SENTENCES)
    return not key.startswith("steps/"), rank, key


def _shape(description: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in description.get("shape", {}).get("dimensions", ()))


def _sort_in(found: RLDSFeatures, key: str, feature: Mapping[str, Any]) -> None:
    if "image" in feature:
        shape, dtype = _shape(feature["image"]), feature["image"].get("dtype", "uint8")
        if dtype != "uint8" or (shape and shape[-1] != 3):
            found.left_out[key] = f"it holds {dtype} images of the shape {shape}, not RGB images of 8 bits"
        else:
            height, width = (shape[0], shape[1]) if len(shape) == 3 else (-1, -1)
            found.cameras[key] = CameraInfo(height=height if height > 0 else None, width=width if width > 0 else None)
    elif "classLabel" in feature:
        found.columns[key] = RLDSColumn(size=1, dtype=np.dtype(np.int64))
    elif "tensor" in feature:
        tensor = feature["tensor"]
        shape, dtype, encoding = _shape(tensor), tensor.get("dtype"), tensor.get("encoding", "none")
        size = int(np.prod(shape))
        if dtype not in _NUMBERS:
            found.left_out[key] = f"its dtype {dtype!r} is none of {_NUMBERS}"
        elif encoding not in ("none", "bytes", "zlib"):
            found.left_out[key] = f"its encoding {encoding!r} is none of 'none', 'bytes', 'zlib'"
        elif any(axis < 0 for axis in shape) or not 0 < size <= _LARGEST_ROW:
            found.left_out[key] = f"it holds tensors of the shape {shape}"
        elif dtype == "bfloat16" and encoding != "none":
            found.left_out[key] = "it holds encoded bfloat16"
        else:
            number = np.dtype(np.float32) if dtype == "bfloat16" else np.dtype(dtype)
            found.columns[key] = RLDSColumn(size=size, dtype=number, encoding=encoding)
    else:
        kind = sorted(set(feature) - {"pythonClassName", "description"})
        found.left_out[key] = f"it is a feature of the kind {kind}"
