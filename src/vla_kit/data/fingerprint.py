"""A short digest of files: it changes with what they hold and not with where they lie."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from vla_kit.errors import DataError

__all__ = ["fingerprint_files"]

_TAIL: Final = 8192  # bytes at the end of a file: the footer of a parquet file, the last samples of a video


def fingerprint_files(root: Path, paths: Iterable[Path], *, whole: Callable[[Path], bool]) -> str:
    """Digest of the names, sizes and ends of files, or of all they hold.

    Reading ends alone makes it cheap where a data set has terabytes. Metadata, which are small and describe the rest,
    should be read whole: a change that keeps every size and every end, and that no metadata mention, goes unseen.

    Args:
        root: Folder that names are relative to.
        paths: Files below `root`, in any order. Folders are passed over.
        whole: Whether to read a file from its beginning.

    Returns:
        16 hexadecimal digits.

    Raises:
        DataError: If a file cannot be read or does not lie below `root`.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> root = Path(folder.name)
        >>> _ = (root / "info.json").write_text("{}")
        >>> fingerprint_files(root, root.iterdir(), whole=lambda path: path.suffix == ".json")
        'a2ab93660290534e'
        >>> folder.cleanup()
    """
    digest = hashlib.sha256()
    for name, path in sorted((_name(path, root), path) for path in paths):
        if not path.is_file():
            continue
        try:
            size = path.stat().st_size
            digest.update(f"{name}:{size}:".encode())
            with path.open("rb") as file:
                if not whole(path):
                    file.seek(max(0, size - _TAIL))
                while block := file.read(1 << 20):
                    digest.update(block)
        except OSError as error:
            raise DataError(
                f"{path} must be readable, got: {error}. Check who may read it, or fetch it again."
            ) from error
    return digest.hexdigest()[:16]


def _name(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError as error:
        raise DataError(f"root must be a folder above all paths, got {root} and {path}. Give another.") from error
