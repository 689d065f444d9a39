"""Cut a data set into blocks of episodes, the unit of work of a job."""

from collections.abc import Iterable, Sequence

from jaxtyping import Int
from numpy import ndarray

from vla_kit.errors import SettingError

__all__ = ["episode_blocks"]


def episode_blocks(
    lengths: Int[ndarray, " episode"] | Sequence[int],
    block_frames: int = 20_000,
    *,
    episodes: Iterable[int] | None = None,
) -> list[list[int]]:
    """Group neighbouring episodes into blocks of about equal work.

    Every episode is in exactly one block, in the given order; an episode is never cut. The blocks depend on the data
    set alone and not on the number of workers, so that results which depend on the cut stay equal.

    Args:
        lengths: Frames of every episode of the data set.
        block_frames: A block is closed before it would hold more frames than this; a longer episode is a block of
            its own.
        episodes: Numbers of the episodes to take; all where None.

    Returns:
        Numbers of the episodes of each block.

    Raises:
        SettingError: If `block_frames` is below 1.

    Examples:
        >>> episode_blocks([5, 5, 30, 2, 2], 10)
        [[0, 1], [2], [3, 4]]
        >>> episode_blocks([5, 5, 30, 2, 2], 10, episodes=[0, 3, 4])
        [[0, 3, 4]]
    """
    if block_frames < 1:
        raise SettingError(f"block_frames must be at least 1, got {block_frames}. Give the frames of a block.")
    blocks: list[list[int]] = []
    frames = 0
    for episode in range(len(lengths)) if episodes is None else episodes:
        length = int(lengths[episode])
        if not blocks or frames + length > block_frames:
            blocks.append([])
            frames = 0
        blocks[-1].append(int(episode))
        frames += length
    return blocks
