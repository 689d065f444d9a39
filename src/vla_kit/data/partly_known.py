"""Readers of actions that are not known in every frame, such as those of a hand that leaves the picture."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor

from vla_kit.data.episodes import EpisodeReader

__all__ = ["PartlyKnown", "known_of"]


@runtime_checkable
class PartlyKnown(Protocol):
    """What an `EpisodeReader` has besides where its actions may be unknown. The others know every number."""

    @property
    def partly_known(self) -> bool:
        """Whether a number may be unknown in some frame."""
        ...

    def known(self, index: int, frame: int, horizon: int) -> Bool[Tensor, "step size"]:
        """Which numbers of `EpisodeReader.chunk` are known; the others are 0 there."""
        ...


def known_of(reader: EpisodeReader, index: int, frame: int, horizon: int) -> Bool[Tensor, "step size"] | None:
    """Which numbers of a chunk are known.

    Args:
        reader: Data set.
        index: Episode.
        frame: Frame at which the chunk begins.
        horizon: Steps wanted, at least 1.

    Returns:
        As many rows as `reader.chunk` gives; None where all numbers of the data set are known.

    Examples:
        >>> import numpy as np
        >>> from vla_kit.data.action_columns import ActionColumns
        >>> from vla_kit.data.memory_source import MemoryEpisode, MemorySource
        >>> from vla_kit.data.robot_reader import RobotReader
        >>> episode = MemoryEpisode(columns={"hand": np.zeros((2, 1)), "seen": np.array([[1.0], [0.0]])})
        >>> hand = ActionColumns("hand", seen="seen")
        >>> known_of(RobotReader(MemorySource([episode]), embodiment="hand", actions=[hand]), 0, 0, 2)
        tensor([[ True],
                [False]])
    """
    return reader.known(index, frame, horizon) if isinstance(reader, PartlyKnown) and reader.partly_known else None
