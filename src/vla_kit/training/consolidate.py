"""One file of a checkpoint that several processes wrote into a folder."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from vla_kit.errors import CheckpointError, SettingError

__all__ = ["consolidate_checkpoint"]

_METADATA = "meta.pt"  # where Lightning puts what is not a tensor


def consolidate_checkpoint(checkpoint: str, output: str) -> None:
    """Make one file of a sharded checkpoint; one process is enough, with memory for the whole checkpoint.

    Args:
        checkpoint: Folder that `ShardedStrategy` wrote, such as `runs/cpt/checkpoints/last.ckpt`.
        output: File to write. A `.ckpt` is what `--warm_start.checkpoint`, `vla-kit evaluate` and
            `VLAModule.load_from_checkpoint` read; a run resumes from the folder, which has the optimiser's state too.
            A `.safetensors` holds the weights alone, for other programs.

    Raises:
        CheckpointError: If `checkpoint` is no such folder, or a file of it is missing or broken.
        SettingError: If `output` has another ending, or exists.
    """
    folder, target = Path(checkpoint), Path(output)
    if target.suffix not in (".ckpt", ".safetensors"):
        raise SettingError(f"output must end in .ckpt or .safetensors, got {output}. Take .ckpt to go on training.")
    if target.exists():
        raise SettingError(f"output must not exist, got {output}. Choose another name, or delete the file.")
    if not (folder / _METADATA).is_file():
        raise CheckpointError(
            f"checkpoint must be a folder that ShardedStrategy wrote, got {checkpoint} without {_METADATA}. "
            "A checkpoint that is one file needs no consolidation."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    try:
        try:
            metadata: dict[str, Any] = torch.load(folder / _METADATA, weights_only=True)
            dcp_to_torch_save(folder, partial)
            content: dict[str, Any] = torch.load(partial, map_location="cpu", weights_only=True)
        except (Exception, CheckpointException) as error:  # whatever a broken share gives; the latter is no Exception
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            raise CheckpointError(
                f"checkpoint must be whole, got {checkpoint} ({reason}). Take an earlier one."
            ) from error
        if target.suffix == ".safetensors":
            save_file({key: tensor.clone() for key, tensor in content["state_dict"].items()}, partial)
        else:
            torch.save(metadata | {"state_dict": content["state_dict"]}, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
