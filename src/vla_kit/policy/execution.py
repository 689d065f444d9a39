"""Carrying out chunks: how many actions of a chunk are used before the policy looks again."""

import numpy as np
from jaxtyping import Float

from vla_kit.errors import SettingError, ShapeError

__all__ = ["ChunkExecutor"]


class ChunkExecutor:
    """Hands out the first `replan_every` actions of a chunk one by one, then asks for a new chunk.

    Fewer actions per chunk react sooner and look more often. One executor serves one robot.

    Args:
        replan_every: Actions used of each chunk, at least 1; all of a shorter chunk.

    Raises:
        SettingError: If `replan_every` is below 1.

    Examples:
        >>> executor = ChunkExecutor(replan_every=2)
        >>> executor.needs_chunk
        True
        >>> executor.give(np.array([[1.0], [2.0], [3.0]]))
        >>> executor.next(), executor.next(), executor.needs_chunk
        (array([1.]), array([2.]), True)

    Source:
        Receding horizon with chunks as in ACT, arXiv 2304.13705. Qwen-VLA, arXiv 2605.30280, predicts chunks of 16 and
        is silent on how many actions of a chunk are carried out.
    """

    def __init__(self, *, replan_every: int) -> None:
        if replan_every < 1:
            raise SettingError(
                f"replan_every must be at least 1, got {replan_every}. Use the chunk size or half of it."
            )
        self.replan_every = replan_every
        self._left: list[np.ndarray] = []

    @property
    def needs_chunk(self) -> bool:
        """True where the next action needs a new chunk."""
        return not self._left

    def reset(self) -> None:
        """Forget the rest of the chunk, as a new episode wants."""
        self._left = []

    def give(self, chunk: Float[np.ndarray, "step size"]) -> None:
        """Replace what is left by the beginning of a new chunk.

        Args:
            chunk: Native actions, at least one.

        Raises:
            ShapeError: If the chunk is empty or not two-dimensional.
        """
        if chunk.ndim != 2 or len(chunk) == 0:
            raise ShapeError(f"chunk must have the shape (step, size), got {chunk.shape}. Give one chunk of actions.")
        self._left = list(chunk[: self.replan_every][::-1])

    def next(self) -> Float[np.ndarray, " size"]:
        """Next action.

        Raises:
            SettingError: If a new chunk is due.
        """
        if not self._left:
            raise SettingError("next must come after give, got no action left. Check needs_chunk first.")
        return self._left.pop()
