"""Text files that are whole or not there."""

import os
import tempfile
from pathlib import Path

from vla_kit.errors import DataError

__all__ = ["write_whole"]


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file beside its place and move it there.

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
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(text)
        Path(file.name).chmod(0o644)
        os.replace(file.name, path)
    except OSError as error:
        raise DataError(f"path must be a file that can be written, got {path}: {error}. Choose another.") from error
