"""Fetch LeRobot data sets from the Hugging Face hub."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from vla_kit.errors import DataError

__all__ = ["fetch_lerobot"]

_META: Final = ["meta/*"]
_FILES: Final = [*_META, "data/*", "videos/*", "images/*"]


def fetch_lerobot(repo_id: str, *, revision: str | None = None, check: Callable[[Path], object]) -> Path:
    """Fetch a data set into the hub's cache: the metadata, then, where they are readable, all the rest.

    Args:
        repo_id: `owner/name`.
        revision: Branch, tag or commit.
        check: Raises for metadata of a kind that cannot be read, before terabytes follow.

    Returns:
        Folder of the data set.

    Raises:
        DataError: If there is no such data set, or neither a connection nor a complete copy in the cache.
    """
    try:
        check(Path(snapshot_download(repo_id, repo_type="dataset", revision=revision, allow_patterns=_META)))
        return Path(snapshot_download(repo_id, repo_type="dataset", revision=revision, allow_patterns=_FILES))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError) as error:
        raise DataError(
            f"root must be a folder or a data set of the hub, got {repo_id}: no such folder, no copy in the cache, "
            f"and the hub cannot be reached ({_first_line(error)}). Check the path and the connection."
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise DataError(
            f"root must be a folder or a data set of the hub, got {repo_id}: {_first_line(error)}. Check the name and "
            "the revision; private and gated sets need `hf auth login`."
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0].rstrip(".")
