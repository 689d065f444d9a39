"""What windows, statistics and cleaning need of a data set: episodes of native actions, instructions and frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int, UInt8
from numpy import ndarray
from torch import Tensor

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
    """A data set as a robot's episodes, whatever its format on disk. `RobotReader` makes one of any `EpisodeSource`.

    Episodes keep the numbers of the source everywhere; a choice of episodes is a list of these numbers. An action
    leads from its frame to the next. A reader survives pickling and forking, since data workers hold copies of it.
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
    def location(self) -> str:
        """Where the data set lies, for messages."""
        ...

    @property
    def num_episodes(self) -> int:
        """Episodes in the data set."""
        ...

    @property
    def lengths(self) -> Int[ndarray, " episode"]:
        """Frames of each episode, int64."""
        ...

    @property
    def num_steps(self) -> Int[ndarray, " episode"]:
        """Leading frames of each episode that have an action, int64.

        All of them, but for actions made of states, which the last frame lacks.
        """
        ...

    @property
    def action_size(self) -> int:
        """Native action channels."""
        ...

    @property
    def state_size(self) -> int:
        """Native channels of the robot's state; 0 where states are not read."""
        ...

    @property
    def rate_hz(self) -> float | None:
        """Frames per second; None where nobody knows."""
        ...

    @property
    def fingerprint(self) -> str:
        """Short digest of the data set and of how its actions and states are made."""
        ...

    @property
    def chunk_relative(self) -> bool:
        """Whether an action depends on the frame that its chunk begins at."""
        ...

    def episode(self, index: int) -> EpisodeInfo:
        """What the metadata knows of an episode."""
        ...

    def instruction_at(self, index: int, frame: int) -> str:
        """What the robot was told at a frame."""
        ...

    def actions(self, index: int) -> Float[Tensor, "step size"]:
        """Native actions of a whole episode, float32: `chunk(index, 0, num_steps[index])`."""
        ...

    def chunk(self, index: int, frame: int, horizon: int) -> Float[Tensor, "step size"]:
        """Native actions from a frame on, float32: `horizon` of them, fewer at the end of the episode, never padded."""
        ...

    def states(self, index: int, frame: int, steps: int) -> Float[Tensor, "step state_size"]:
        """Native states at `steps` frames from a frame on, float32: fewer at the end of the episode, never padded."""
        ...

    def frames(self, index: int, indices: Sequence[int]) -> dict[str, UInt8[Tensor, "image 3 height image_width"]]:
        """RGB frames of an episode per view tag, in the order of `indices`."""
        ...
