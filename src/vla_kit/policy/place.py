"""Where a saved policy lies: in a folder, or on the hub."""

import re
from pathlib import Path

from vla_kit.errors import CheckpointError

__all__ = ["local_policy"]


def local_policy(source: str | Path, *, revision: str | None = None) -> Path:
    """The folder itself, or the copy of what the hub has under this id.

    Args:
        source: Folder that `Policy.save` wrote, or hub id `owner/name` where there is no such folder.
        revision: Branch, tag or commit of a hub id.

    Returns:
        The folder.

    Raises:
        CheckpointError: If there is neither, or the hub cannot be reached.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        return path
    if isinstance(source, Path) or not re.fullmatch(r"\w[\w.-]*/[\w.-]+", source):
        raise CheckpointError(
            f"folder must be a folder that Policy.save wrote or a hub id owner/name, got {str(source)!r}, which is "
            "neither. Check the path."
        )
    from vla_kit.policy.hub import fetch_policy  # the hub's client loads when it is asked

    return fetch_policy(source, revision=revision)
