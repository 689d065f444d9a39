"""Statistics that were computed once, kept beside the data or in a folder of the user."""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

from vla_kit.data.whole_file import write_atomically
from vla_kit.errors import DataError

__all__ = ["StatisticsCache"]

_VERSION: Final = 1  # raised where the same recipe would give other numbers

Statistics = TypeVar("Statistics")


class StatisticsCache:
    """Keeps statistics in small JSON files, found again by what they were made from.

    The place is `.vla_kit` in the folder of the data set, or beside its file. Where that cannot be written, or the data
    lie in no folder, it is the folder that `VLA_KIT_CACHE` names, else `vla_kit` in `XDG_CACHE_HOME`, which is
    `~/.cache` where it is not set. Files appear whole or not at all. Deleting one is harmless.

    Args:
        folder: Keep them here and nowhere else.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     cache = StatisticsCache(folder)
        ...     cache.store({"fingerprint": "6a09"}, {"mean": [0.5]}, location="reach")
        ...     cache.load({"fingerprint": "6a09"}, dict, location="reach")
        {'mean': [0.5]}
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self._folder = None if folder is None else Path(folder)

    def folders(self, location: str) -> list[Path]:
        """Where statistics of a data set may lie, the best place first.

        Args:
            location: `location` of the source or reader.
        """
        if self._folder is not None:
            return [self._folder]
        named, place = os.environ.get("VLA_KIT_CACHE"), Path(location)
        shared = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vla_kit"
        if not place.exists():
            return [shared]
        return [(place if place.is_dir() else place.parent) / ".vla_kit", shared]

    def load(
        self, recipe: Mapping[str, Any], read: Callable[[dict[str, Any]], Statistics], *, location: str
    ) -> Statistics | None:
        """Find statistics.

        Args:
            recipe: What they were made from, as JSON values, such as fingerprint and episodes.
            read: Makes statistics of what was stored.
            location: Where the data set lies.

        Returns:
            The statistics; None where there are none.

        Raises:
            DataError: If a file is broken.
        """
        for folder in self.folders(location):
            path = folder / _file_name(recipe)
            try:
                text = path.read_text(encoding="utf-8")
            except OSError:
                continue  # not there, or not for us to read
            except UnicodeDecodeError as error:
                raise _broken(path, error) from error
            try:
                content = json.loads(text)
                if content["recipe"] != _full(recipe):
                    raise ValueError("they were made from something else")
                return read(content["statistics"])
            except (ValueError, TypeError, KeyError, AttributeError) as error:
                raise _broken(path, error) from error
        return None

    def store(self, recipe: Mapping[str, Any], statistics: Mapping[str, Any], *, location: str) -> None:
        """Keep statistics.

        Args:
            recipe: What they were made from.
            statistics: JSON values.
            location: Where the data set lies.

        Warns:
            UserWarning: If no place can be written; they will be computed again next time.
        """
        reasons = []
        text = json.dumps({"recipe": _full(recipe), "statistics": dict(statistics)}, indent=1)
        for folder in self.folders(location):
            try:
                write_atomically(folder / _file_name(recipe), text)
            except OSError as error:
                reasons.append(f"{folder}: {error.strerror or error}")
            else:
                return
        warnings.warn(
            f"statistics of {location} could not be kept ({'; '.join(reasons)}) and will be computed again. "
            "Set VLA_KIT_CACHE to a folder that can be written.",
            stacklevel=3,
        )


def _full(recipe: Mapping[str, Any]) -> dict[str, Any]:
    whole: dict[str, Any] = json.loads(json.dumps({"version": _VERSION, **recipe}))
    return whole


def _file_name(recipe: Mapping[str, Any]) -> str:
    text = json.dumps(_full(recipe), sort_keys=True)
    return f"statistics-{hashlib.sha256(text.encode()).hexdigest()[:16]}.json"


def _broken(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} must hold statistics, got: {error!r}. Delete the file; it will be computed again.")
