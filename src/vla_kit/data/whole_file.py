"""Files that are whole or not there."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vla_kit.errors import DataError

__all__ = ["write_atomically", "write_whole", "written_beside"]


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A temporary name beside a file, which becomes that file when the block ends well, and else is removed.

    Args:
        path: File to write or replace; folders are made.

    Examples:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with written_beside(Path(folder) / "new" / "a.bin") as partial:
        ...         _ = partial.write_bytes(b"done")
        ...     [file.name for file in Path(folder, "new").iterdir()]
        ['a.bin']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    partial = Path(name)
    try:
        yield partial
        partial.chmod(0o644)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


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
    with written_beside(path) as partial:
        partial.write_text(text, encoding="utf-8")


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
