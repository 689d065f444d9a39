"""Carrying out a chunk while the next one is computed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vla_kit.actions import MaskedActions
from vla_kit.errors import DataError, SettingError, ShapeError

__all__ = ["ChunkPrefix", "RealTimeExecutor", "known_actions"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkPrefix:
    """What is left of the running chunk at the instant of an observation: the known beginning of the next chunk.

    Args:
        actions: Native actions, the first of them due now.
        delay: How many of them will have been carried out when the next chunk is there.

    Raises:
        ShapeError: If `actions` is not two-dimensional or shorter than `delay`.
        DataError: If an action is NaN or infinite.
        SettingError: If `delay` is negative.

    Examples:
        >>> ChunkPrefix(actions=np.zeros((6, 7)), delay=2).delay
        2
    """

    actions: Float[np.ndarray, "step size"]
    delay: int

    def __post_init__(self) -> None:
        if self.delay < 0:
            raise SettingError(f"delay must be at least 0, got {self.delay}. Count control steps.")
        if self.actions.ndim != 2 or len(self.actions) < self.delay:
            raise ShapeError(
                f"actions must have the shape (step, size) with at least delay = {self.delay} steps, got "
                f"{self.actions.shape}. Ask for a new chunk earlier."
            )
        broken = np.flatnonzero(~np.isfinite(self.actions).all(axis=1)).tolist()
        if broken:
            raise DataError(f"actions must be finite, got NaN or infinity in steps {broken}. Ask for a new chunk.")


class RealTimeExecutor:
    """Asks for a chunk every `replan_every` steps, and goes on with the old one for `delay` steps until it is there.

    A robot that waits for its policy stands still between chunks. One that does not has moved on by `delay` steps when
    the answer comes: those steps of the new chunk are over, and the rest fits only if the policy knew them. Give
    `prefix` to `Policy.act` for that. Without it, this is plain asynchronous execution, which jumps where two chunks
    disagree.

    The executor counts steps, not seconds, so a simulator and a test see what a robot sees: call `give` as soon as
    `needs_chunk` is true, with the answer to the observation of that instant; it takes effect `delay` calls of `next`
    later. On a robot, compute in another thread meanwhile. The first chunk of an episode takes effect at once.

    Args:
        replan_every: Steps between observations, at least 1.
        delay: Steps that pass while a chunk is computed, at most `replan_every`; 0 waits, as `ChunkExecutor` does.

    Raises:
        SettingError: If a number is out of range.

    Examples:
        >>> executor = RealTimeExecutor(replan_every=2, delay=1)
        >>> executor.prefix is None
        True
        >>> executor.give(np.array([[0.0], [1.0], [2.0], [3.0]]))
        >>> executor.next(), executor.next(), executor.needs_chunk
        (array([0.]), array([1.]), True)
        >>> executor.prefix.actions.tolist(), executor.prefix.delay
        ([[2.0], [3.0]], 1)
        >>> executor.give(np.array([[20.0], [30.0], [40.0], [50.0]]))  # computed from what was seen before step 2
        >>> executor.next(), executor.next()
        (array([2.]), array([30.]))

    Source:
        Real-time chunking, arXiv 2506.07339, algorithm 1, with a fixed delay d and execution horizon s.
    """

    def __init__(self, *, replan_every: int, delay: int) -> None:
        if replan_every < 1:
            raise SettingError(f"replan_every must be at least 1, got {replan_every}. Use half of the chunk.")
        if not 0 <= delay <= replan_every:
            raise SettingError(
                f"delay must lie in [0, replan_every = {replan_every}], got {delay}. "
                "Replan less often, so that one chunk is computed at a time."
            )
        self.replan_every = replan_every
        self.delay = delay
        self.reset()

    @property
    def needs_chunk(self) -> bool:
        """True where the computation of a new chunk begins."""
        return len(self._left) == 0 or self._since >= self.replan_every

    @property
    def prefix(self) -> ChunkPrefix | None:
        """What the policy should know when it is asked now; None at the start of an episode."""
        return ChunkPrefix(actions=self._left, delay=self.delay) if len(self._left) else None

    def reset(self) -> None:
        """Forget all chunks, as a new episode wants."""
        self._left: np.ndarray = np.zeros((0, 0))
        self._coming: np.ndarray | None = None
        self._wait = 0
        self._since = 0

    def give(self, chunk: Float[np.ndarray, "step size"]) -> None:
        """Hand over the answer to the observation of now; it takes effect `delay` steps later.

        Args:
            chunk: Native actions, from now on.

        Raises:
            ShapeError: If the chunk is not two-dimensional or shorter than `replan_every + delay`.
        """
        least = self.replan_every + self.delay
        if chunk.ndim != 2 or len(chunk) < least:
            raise ShapeError(
                f"chunk must have the shape (step, size) with at least replan_every + delay = {least} steps, got "
                f"{chunk.shape}. Replan more often, or predict longer chunks."
            )
        if len(self._left) == 0:
            self._left = chunk
        else:
            self._coming, self._wait = chunk, self.delay
            self._switch()
        self._since = 0

    def next(self) -> Float[np.ndarray, " size"]:
        """Next action.

        Raises:
            SettingError: If a new chunk is due.
        """
        if self.needs_chunk:
            raise SettingError("next must come after give, got a chunk that is due. Check needs_chunk first.")
        action: np.ndarray = self._left[0]
        self._left = self._left[1:]
        self._since += 1
        self._wait -= 1
        self._switch()
        return action

    def _switch(self) -> None:
        if self._coming is not None and self._wait <= 0:
            self._left, self._coming = self._coming[self.delay :], None


def known_actions(
    prefixes: Sequence[ChunkPrefix | None], mask: Bool[Tensor, "batch horizon channel"]
) -> tuple[MaskedActions, Int[Tensor, " batch"]]:
    """Pad known beginnings to the chunks that they begin.

    Args:
        prefixes: One per chunk, None for a chunk without; steps beyond the chunk are left out.
        mask: True where a chunk has an entry, on the CPU.

    Returns:
        Native actions, real where they are known, and the delay of each chunk.

    Raises:
        ShapeError: If there are more or fewer prefixes than chunks, or one has other channels than its chunk.

    Examples:
        >>> prefix = ChunkPrefix(actions=np.ones((2, 1), dtype=np.float32), delay=1)
        >>> known, delay = known_actions([None, prefix], torch.ones(2, 3, 1, dtype=torch.bool))
        >>> known.mask[..., 0].tolist(), delay.tolist()
        ([[False, False, False], [True, True, False]], [0, 1])
    """
    if len(prefixes) != len(mask):
        raise ShapeError(
            f"prefixes must hold one entry per observation ({len(mask)}), got {len(prefixes)}. Give None for none."
        )
    values, known = torch.zeros(mask.shape), torch.zeros_like(mask)
    for row, prefix in enumerate(prefixes):
        if prefix is None:
            continue
        steps, size = int(mask[row].any(-1).sum()), int(mask[row].any(0).sum())
        if prefix.actions.shape[1] != size:
            raise ShapeError(
                f"prefixes[{row}].actions must have the {size} channels of its robot, got {prefix.actions.shape}. "
                "Take what is left of the chunk that this robot carries out."
            )
        actions = torch.from_numpy(np.ascontiguousarray(prefix.actions[:steps]))
        values[row, : len(actions), :size] = actions.to(values.dtype)
        known[row, : len(actions), :size] = True
    delays = [0 if prefix is None else prefix.delay for prefix in prefixes]
    return MaskedActions(values, known), torch.tensor(delays)
