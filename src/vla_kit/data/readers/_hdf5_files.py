"""HDF5 files: finding them in the order of their numbers, and keeping a few of them open."""

import itertools
import os
import re
import weakref
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from vla_kit.data.readers._shared_cache import SharedCache
from vla_kit.errors import DataError, MissingExtraError

try:
    import h5py
except ImportError as error:
    raise MissingExtraError("h5py", extra="hdf5") from error

__all__ = ["HDF5Files", "list_hdf5_files", "natural_order"]

SUFFIXES: Final = (".hdf5", ".h5")

_HANDLES: Final[SharedCache[h5py.File]] = SharedCache(budget=32)
_OWNERS: Final[Iterator[int]] = itertools.count()

os.register_at_fork(after_in_child=_HANDLES.abandon)


def natural_order(name: str) -> list[str | int]:
    """Sort key that counts: `demo_10` comes after `demo_9`.

    Examples:
        >>> sorted(["demo_10", "demo_9"], key=natural_order)
        ['demo_9', 'demo_10']
    """
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def list_hdf5_files(root: Path) -> list[Path]:
    """The file itself, or every HDF5 file in a folder and the folders below it, in natural order.

    Args:
        root: File, or folder of files that end in `.hdf5` or `.h5`.

    Raises:
        DataError: If there is nothing of the kind.

    Examples:
        >>> list_hdf5_files(Path("missing.hdf5"))
        Traceback (most recent call last):
        ...
        vla_kit.errors.DataError: root must be an HDF5 file or a folder of them, got missing.hdf5. Check the path.
    """
    if root.is_file():
        return [root]
    found = [
        path for path in root.rglob("*") if path.suffix in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        what = f"{root} without a file that ends in {' or '.join(SUFFIXES)}" if root.is_dir() else root
        raise DataError(f"root must be an HDF5 file or a folder of them, got {what}. Check the path.")
    return sorted(found, key=lambda path: natural_order(path.relative_to(root).as_posix()))


class HDF5Files:
    """Opens files at their first use and keeps 32 of them open, those of all sets of this process together.

    Handles do not cross a fork or a pickle: another process opens its own.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "a.hdf5")
        ...     with h5py.File(path, "w") as file:
        ...         file["action"] = [1.0, 2.0]
        ...     files = HDF5Files()
        ...     files.open(path)["action"].shape
        ...     files.close()
        (2,)
    """

    def __init__(self) -> None:
        self._owner = next(_OWNERS)
        finalizer = weakref.finalize(self, _HANDLES.forget, self._owner)
        finalizer.atexit = False

    def open(self, path: Path) -> h5py.File:
        """The open file, for reading.

        Raises:
            DataError: If the file is missing, truncated or no HDF5.
        """
        return _HANDLES.get((self._owner, path), partial(_open, path))

    def close(self) -> None:
        """Close every file; the next use opens it again."""
        _HANDLES.forget(self._owner)

    def __reduce__(self) -> tuple[type["HDF5Files"], tuple[()]]:
        return HDF5Files, ()


def _open(path: Path) -> tuple[h5py.File, float]:
    try:
        return h5py.File(path, "r", locking="best-effort"), 1
    except OSError as error:
        raise DataError(
            f"{path} must be a readable HDF5 file, got: {str(error).splitlines()[0]}. It is missing or truncated; "
            "copy or record it again, or move it out of the data set."
        ) from error
