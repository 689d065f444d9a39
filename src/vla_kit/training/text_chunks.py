"""Demonstrations without pictures, in chunks: the other way to train text to action (T2A)."""

from collections.abc import Sequence
from dataclasses import replace

from vla_kit.data.demonstration_set import DemonstrationSet
from vla_kit.data.shares import Shares
from vla_kit.training.demonstrations import DemonstrationDataModule

__all__ = ["text_chunks"]


def text_chunks(
    *,
    sets: Sequence[DemonstrationSet],
    batch_size: int = 64,
    samples_per_epoch: int | None = None,
    shares: Shares | None = None,
    validation_share: float = 0.05,
    validation_stride: int = 4,
    num_workers: int = 0,
    open_sets: int = 32,
    seed: int = 0,
) -> DemonstrationDataModule:
    """Sentences and the chunks of actions that follow; no picture is read.

    The prompt announces the `chunk_size` of the robot, and a chunk begins at any frame, so the text alone does not say
    where the trajectory stands. `TextToActionDataModule`, which gives whole trajectories, does without that doubt.

    Args:
        sets: Data sets of the mixture; their views are left alone.
        batch_size: As in `DemonstrationDataModule`, as are all the following.
        samples_per_epoch: Samples per epoch over all processes.
        shares: How often each set, robot or task is drawn.
        validation_share: Share of the episodes of each set that validates and never trains, in [0, 1).
        validation_stride: Frames between validation samples.
        num_workers: Processes that load.
        open_sets: Data sets that are open at a time.
        seed: Of the split and of the order.

    Returns:
        The datamodule.

    Raises:
        SettingError: If there is no set, or a number is out of range.

    Examples:
        >>> reach = DemonstrationSet(root="reach", embodiment="metaworld_sawyer", views={"cam_high": "top"})
        >>> text_chunks(sets=[reach]).sets[0].views
        {}

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.2.1: the ablation of T2A compares full sequences with chunks.
    """
    return DemonstrationDataModule(
        sets=[replace(one, views={}, cache_frames=False, frame_cache=None) for one in sets],
        batch_size=batch_size,
        samples_per_epoch=samples_per_epoch,
        shares=shares,
        validation_share=validation_share,
        validation_stride=validation_stride,
        num_workers=num_workers,
        open_sets=open_sets,
        seed=seed,
    )
