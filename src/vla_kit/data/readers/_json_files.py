"""JSON files, compressed or not."""

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

from vla_kit.errors import DataError

__all__ = ["read_json"]


def read_json(path: Path) -> Any:  # noqa: ANN401 (whatever stands there)
    r"""Read `.json`, `.json.gz`, or one value a line from `.jsonl` and `.jsonl.gz`.

    Args:
        path: The file.

    Returns:
        What it holds; a list for lines.

    Raises:
        DataError: If the file is missing, broken or no JSON.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "one.jsonl.gz"
        ...     _ = path.write_bytes(gzip.compress(b'{"a": 1}\n{"a": 2}\n'))
        ...     read_json(path)
        [{'a': 1}, {'a': 2}]
    """
    try:
        content = path.read_bytes()
        text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode("utf-8")
        if ".jsonl" in path.suffixes[-2:]:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except FileNotFoundError as error:
        raise DataError(f"{path} must be a file, got nothing there. Check the path.") from error
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{path} must hold JSON, got {type(error).__name__}: {error}. Download it again.") from error
