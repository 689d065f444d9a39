"""Weights, gradients and optimiser state divided among processes (FSDP2)."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

__all__ = ["ShardedStrategy", "shard", "sharding_units"]


class ShardedStrategy(ModelParallelStrategy):
    """Every process holds its share of the weights, of the gradients and of the optimiser's state.

    Before a unit of the model runs, its weights are gathered, and afterwards given up again; see `sharding_units`. The
    losses are those of `ddp`. It runs on CPUs too, where Lightning's own FSDP strategy does not.

    A checkpoint is a folder, into which every process writes its share; any number of processes resumes from it, and
    `consolidate_checkpoint` makes one file of it. A folder is written beside its place and moved there once it is
    whole.

    Batches of a run with conversations may differ: one without actions, without language or without images does the
    same work on nothing. In other runs every batch must hold images on all processes, or on none, and in all runs
    likewise videos (`history: video` of a backbone, or in conversations): the vision tower runs once for each kind that
    there is, and processes that gather it wait for the others. In a mixture whose every batch mixes all sets this is
    so.

    Examples:
        >>> ShardedStrategy().restore_checkpoint_after_setup
        True

    Source:
        FSDP2 of torch, through Lightning's `ModelParallelStrategy`. Qwen-VLA (arXiv 2605.30280) does not say how it was
        distributed; starVLA uses ZeRO-2.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=True)

    def setup_environment(self) -> None:
        """Divide among all processes."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: str | Path, storage_options: object | None = None
    ) -> None:
        """Write or replace a folder."""
        place = Path(self.broadcast(filepath))
        partial, old = place.with_name(f"{place.name}.partial"), place.with_name(f"{place.name}.old")
        if self.is_global_zero:
            shutil.rmtree(partial, ignore_errors=True)
        self.barrier()
        super().save_checkpoint(checkpoint, partial, storage_options)
        self.barrier()
        if self.is_global_zero:
            shutil.rmtree(old, ignore_errors=True)
            if place.is_file():
                place.unlink()
            elif place.is_dir():
                place.rename(old)
            partial.rename(place)
            shutil.rmtree(old, ignore_errors=True)
        self.barrier()


def sharding_units(part: nn.Module) -> list[nn.Module]:
    """Modules of a part whose weights are gathered together; what is left over is a unit of its own, `part` itself.

    The units are the layers that transformers names in `_no_split_modules`. A part without such layers is one unit.

    Args:
        part: Backbone or head, on any device.

    Returns:
        Units from the inside out; the last is `part`.

    Examples:
        >>> from vla_kit.backbones.tiny import tiny_qwen3_vl
        >>> backbone = tiny_qwen3_vl(corpus=["push"], view_tags=["ego"], hidden=32, vision_layers=1, text_layers=2)
        >>> [type(unit).__name__ for unit in sharding_units(backbone)]
        ['Qwen3VLVisionBlock', 'Qwen3VLTextDecoderLayer', 'Qwen3VLTextDecoderLayer', 'QwenVLBackbone']
    """
    names = {name for module in part.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [*(module for module in part.modules() if type(module).__name__ in names), part]


def shard(parts: Iterable[nn.Module], mesh: DeviceMesh) -> None:
    """Divide the weights of parts among the processes, in place; what is divided already stays.

    Args:
        parts: Modules without shared parameters, such as backbone and head.
        mesh: Processes, on one axis.
    """
    for part in parts:
        if isinstance(part, FSDPModule):
            continue
        for unit in sharding_units(part):
            # The part itself is asked for more than its forward (`condition`), and keeps its weights in between.
            fully_shard(unit, mesh=mesh, reshard_after_forward=unit is not part)
        if hasattr(part, "condition"):
            register_fsdp_forward_method(part, "condition")
