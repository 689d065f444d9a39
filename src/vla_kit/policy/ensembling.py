"""Carrying out overlapping chunks: the mean of what they say about the same instant."""

import numpy as np
from jaxtyping import Float

from vla_kit.actions import ActionSpace
from vla_kit.errors import SettingError, ShapeError

__all__ = ["EnsembleExecutor"]


class EnsembleExecutor:
    """Asks for a chunk every `replan_every` steps and carries out a weighted mean of all chunks that cover the instant.

    The same steps as with `ChunkExecutor`: ask `needs_chunk`, `give`, `next`. A small `replan_every` makes many chunks
    overlap; the policy looks as often.

    Not every channel may be averaged. Channels that the space does not normalise, such as binary grippers, take the
    newest chunk's value, and so do absolute end-effector rotations, whose numbers jump where an angle turns over. Two
    things the space cannot know: a chunk of deltas to its own first frame (or waypoints from the current pose) means
    something else in each chunk and must not be averaged at all; and the mean of two ways around an obstacle leads
    into it, where real-time chunking keeps to one.

    Args:
        space: Native action channels of the robot.
        replan_every: Steps between chunks, at least 1.
        decay: Weights are `exp(-decay * age rank)`, 0 for the oldest chunk: 0 is the plain mean, larger values trust
            old chunks more, negative ones new chunks.

    Raises:
        SettingError: If `replan_every` is below 1 or `decay` is not finite.

    Examples:
        >>> from vla_kit.actions import ChannelGroup
        >>> space = ActionSpace([ChannelGroup("joint", kind="joint", reference="absolute", unit="rad")])
        >>> executor = EnsembleExecutor(space, decay=0.0)
        >>> executor.give(np.array([[1.0], [2.0]]))
        >>> executor.next(), executor.needs_chunk
        (array([1.]), True)
        >>> executor.give(np.array([[4.0], [5.0]]))
        >>> executor.next()  # the mean of 2, promised before, and 4
        array([3.])

    Source:
        ACT, arXiv 2304.13705, section IV-A: temporal ensembling, w_i = exp(-m i) with w_0 for the oldest action; 0.01
        is the m of its code. Which channels are averaged is ours; ACT averages all.
    """

    def __init__(self, space: ActionSpace, *, replan_every: int = 1, decay: float = 0.01) -> None:
        if replan_every < 1:
            raise SettingError(f"replan_every must be at least 1, got {replan_every}. Use 1, or a part of the chunk.")
        if not np.isfinite(decay):
            raise SettingError(f"decay must be finite, got {decay}. Use 0.01.")
        self.space = space
        self.replan_every = replan_every
        self.decay = decay
        self._averaged = np.array(
            [
                channel.normalized and not (channel.kind == "eef_rotation" and channel.reference == "absolute")
                for channel in space.channels
            ]
        )
        self.reset()

    @property
    def needs_chunk(self) -> bool:
        """True where the next action needs a new chunk."""
        return not self._chunks or self._since >= self.replan_every

    def reset(self) -> None:
        """Forget all chunks, as a new episode wants."""
        self._chunks: list[np.ndarray] = []  # what is left of each, oldest first
        self._since = 0

    def give(self, chunk: Float[np.ndarray, "step size"]) -> None:
        """Add a chunk that begins now.

        Args:
            chunk: Native actions, at least one.

        Raises:
            ShapeError: If the chunk is empty or not of the size of the space.
        """
        if chunk.ndim != 2 or len(chunk) == 0 or chunk.shape[1] != self.space.size:
            raise ShapeError(
                f"chunk must have the shape (step, {self.space.size}), got {chunk.shape}. Give one chunk of actions."
            )
        self._chunks.append(chunk)
        self._since = 0

    def next(self) -> Float[np.ndarray, " size"]:
        """Next action.

        Raises:
            SettingError: If a new chunk is due.
        """
        if self.needs_chunk:
            raise SettingError("next must come after give, got no chunk for now. Check needs_chunk first.")
        now = np.stack([chunk[0] for chunk in self._chunks])
        weights = np.exp(-self.decay * np.arange(len(now)))
        mean = (weights[:, None] * now).sum(0) / weights.sum()
        self._chunks = [chunk[1:] for chunk in self._chunks if len(chunk) > 1]
        self._since += 1
        action: np.ndarray = np.where(self._averaged, mean, now[-1]).astype(now.dtype)
        return action
