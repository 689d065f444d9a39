"""What the attributes of robot data in HDF5 files say: JSON settings, the control rate and the sentence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from vla_kit.errors import DataError, MissingExtraError

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("h5py", extra="hdf5") from error

__all__ = ["control_rate", "json_attribute", "one_rate", "sentence"]

_SENTENCES: Final = ("language_instruction", "instruction", "lang", "language", "task_description", "language_raw")


def control_rate(attributes: Mapping[str, Any], path: Path) -> float | None:
    """Frames per second by the attribute `env_args`; None where it does not say.

    Raises:
        DataError: If the attribute is not JSON, or the rate is no positive number.
    """
    settings = json_attribute(attributes, "env_args", f"{path}: data")
    inner = settings.get("env_kwargs")
    rate = inner.get("control_freq") if isinstance(inner, dict) else None
    if rate is None:
        return None
    if not isinstance(rate, int | float) or not rate > 0:
        raise DataError(f"{path}: control_freq in env_args must be a positive number, got {rate!r}. Correct the file.")
    return float(rate)


def one_rate(rates: Mapping[Path, float | None]) -> float | None:
    """The rate that all files share.

    Raises:
        DataError: If they differ.
    """
    distinct = {rate: path for path, rate in rates.items()}
    if len(distinct) > 1:
        listed = ", ".join(f"{rate} in {path.name}" for rate, path in distinct.items())
        raise DataError(f"control_freq must be the same in all files of a data set, got {listed}. Split the folder.")
    return next(iter(distinct))


def json_attribute(attributes: Mapping[str, Any], key: str, where: str) -> dict[str, Any]:
    """An attribute that holds JSON; empty where there is none.

    Raises:
        DataError: If it does not hold a JSON object.
    """
    text = attributes.get(key)
    if text is None:
        return {}
    try:
        value = json.loads(text)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: the attribute {key} must be JSON, got: {error}. Correct the file.") from error
    if not isinstance(value, dict):
        raise DataError(f"{where}: the attribute {key} must be a JSON object, got {type(value)}. Correct the file.")
    return value


def sentence(group: h5py.Group) -> str:
    """What the robot was told, by an attribute or a data set of one of the usual names; empty where there is none.

    Examples:
        >>> with h5py.File.in_memory() as file:
        ...     file["language_raw"] = [b"stack the cups"]
        ...     sentence(file)
        'stack the cups'
    """
    for key in _SENTENCES:
        value = group.attrs.get(key)
        if value is None and isinstance(group.get(key), h5py.Dataset):
            value = group[key][()]
        while not isinstance(value, str | bytes) and hasattr(value, "__len__") and len(value):
            value = value[0]
        if isinstance(value, bytes):
            value = value.decode("utf-8", errors="replace")
        if isinstance(value, str) and value.strip():
            return value.strip()
    return ""
