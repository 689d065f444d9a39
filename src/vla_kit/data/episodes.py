"""What every reader offers: episodes of native actions, instructions and frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, UInt8
from torch import Tensor

from vla_kit.actions import QuantileStats

__all__ = ["EpisodeInfo", "EpisodeReader"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeInfo:
    """What is known of an episode without reading its frames.

    Args:
        index: Index of the episode in its data set.
        length: Frames of the episode.
        instructions: The sentences of the episode, in the order of the metadata; most sets have one.
        seed: Seed of the simulator that made the episode, where the data set keeps it.

    Examples:
        >>> EpisodeInfo(index=0, length=12, instructions=("open the door",)).instruction
        'open the door'
    """

    index: int
    length: int
    instructions: tuple[str, ...]
    seed: int | None = None

    @property
    def instruction(self) -> str:
        """The first sentence; empty where the data set has no language."""
        return self.instructions[0] if self.instructions else ""


@runtime_checkable
class EpisodeReader(Protocol):
    """A data set as episodes, whatever its format on disk. Datasets of windows need nothing else.

    A reader must survive pickling and forking, since data workers hold copies of it.
    """

    @property
    def name(self) -> str:
        """Name of the data set."""
        ...

    @property
    def embodiment(self) -> str:
        """Name of the robot, the same for all episodes."""
        ...

    @property
    def num_episodes(self) -> int:
        """Episodes in the data set."""
        ...

    @property
    def action_size(self) -> int:
        """Native action channels."""
        ...

    def episode(self, index: int) -> EpisodeInfo:
        """What the metadata knows of an episode."""
        ...

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot was told at a frame."""
        ...

    def actions(self, index: int) -> Float[Tensor, "step size"]:
        """Native actions of a whole episode."""
        ...

    def frames(self, index: int, indices: Sequence[int]) -> dict[str, UInt8[Tensor, "image 3 height image_width"]]:
        """RGB frames of an episode per view tag, in the order of `indices`."""
        ...

    def statistics(self) -> QuantileStats:
        """Statistics of the action column over every frame of the data set."""
        ...
