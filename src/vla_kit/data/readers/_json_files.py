"""JSON files, compressed or not."""

import gzip
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vla_kit.errors import DataError

__all__ = ["json_field", "read_json"]


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


def json_field(
    row: Mapping[str, Any], key: str, kind: type = object, *, place: Path, episode: object, remedy: str
) -> Any:  # noqa: ANN401 (JSON)
    """What an episode holds under a key that it must have.

    Args:
        row: The episode.
        key: Its key.
        kind: Type of JSON's that the value must be of.
        place: The file, for the message.
        episode: Number or name of the episode, for the message.
        remedy: What to do, for the message.

    Raises:
        DataError: If the key is missing or null, or the value of another kind.
    """
    if row.get(key) is None:
        raise DataError(f"{place}: episode {episode} must have {key!r}, got {sorted(row)}. {remedy}")
    if not isinstance(row[key], kind):
        raise DataError(
            f"{place}: {key} of episode {episode} must be a {kind.__name__}, got {row[key]!r:.80}. {remedy}"
        )
    return row[key]
