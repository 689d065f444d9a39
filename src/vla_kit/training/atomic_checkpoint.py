"""Checkpoints that are whole or not there, even if the machine stops while one is written."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

__all__ = ["AtomicCheckpointIO"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place, waits for the disk, and moves it there: a plugin of Lightning's trainer.

    Lightning itself writes to the system's folder for temporary files. Where that is another disk, the file is copied
    to its place, and a run that is killed meanwhile loses its only checkpoint. Here the old one stays until the new
    one is whole. What a killed run leaves is one `<name>.partial`, which the next checkpoint replaces.

    Remote paths (`s3://...`) are left to Lightning.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> AtomicCheckpointIO().save_checkpoint({"global_step": 3}, folder / "last.ckpt")
        >>> [path.name for path in folder.iterdir()], torch.load(folder / "last.ckpt")
        (['last.ckpt'], {'global_step': 3})
    """

    def save_checkpoint(
        self, checkpoint: Mapping[str, Any], path: str | Path, storage_options: object | None = None
    ) -> None:
        """Write or replace a checkpoint."""
        if "://" in str(path):
            super().save_checkpoint(dict(checkpoint), path, storage_options)
            return
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f"{place.name}.partial")
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
