"""Text files that are whole or not there."""

import os
import tempfile
from pathlib import Path

from vla_kit.errors import DataError

__all__ = ["write_atomically", "write_whole"]


def write_atomically(path: Path, text: str) -> None:
    """Write a text file beside its place and move it there.

    Args:
        path: File to write or replace; folders are made.
        text: Content, written as UTF-8.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_atomically(Path(folder) / "new" / "a.txt", "done")
        ...     (Path(folder) / "new" / "a.txt").read_text()
        'done'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(name).chmod(0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, text: str) -> None:
    """`write_atomically`, for callers who report a path that cannot be written as an error of the library.

    Args:
        path: File to write or replace; folders are made.
        text: Content, written as UTF-8.

    Raises:
        DataError: If the file cannot be written.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(f"{folder}/new/a.txt", "done")
        ...     Path(f"{folder}/new/a.txt").read_text()
        'done'
    """
    try:
        write_atomically(Path(path), text)
    except OSError as error:
        raise DataError(f"path must be a file that can be written, got {path}: {error}. Choose another.") from error
