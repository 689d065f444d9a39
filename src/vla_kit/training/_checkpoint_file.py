"""A checkpoint of Lightning as it lies on disk, before a model takes anything from it."""

from pathlib import Path
from typing import Any

import torch

from vla_kit.errors import CheckpointError

__all__ = ["read_checkpoint"]


def read_checkpoint(path: Path, *, remedy: str, mmap: bool = False) -> dict[str, Any]:
    """Read a checkpoint on the CPU, without running code of it.

    Args:
        path: The file.
        remedy: What to do where there is none, for the message.
        mmap: Whether to leave tensors on disk until they are used.

    Returns:
        Its content, with a `state_dict`.

    Raises:
        CheckpointError: If the file is missing, broken, or no checkpoint.
    """
    if not path.is_file():
        raise CheckpointError(f"checkpoint must be a file, got {path}. {remedy}")
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # whatever unpickling a wrong file gives
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(
            f"checkpoint must be a whole Lightning checkpoint, got {path}: {reason}. Take another, or train again."
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"checkpoint must hold a state_dict, got {path}. Take a file that Trainer saved.")
    return content
