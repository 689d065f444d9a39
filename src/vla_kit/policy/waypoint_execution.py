"""Carrying out predicted waypoints over a sliding window: a few of each chunk, in the frame where the robot then is."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator

from vla_kit.actions import StopRule, WaypointReading, convert_waypoints
from vla_kit.actions.waypoints import check_reading
from vla_kit.errors import ShapeError
from vla_kit.policy.execution import ChunkExecutor
from vla_kit.policy.observation import PolicyObservation

__all__ = ["WaypointExecutor", "WaypointPolicy"]


class WaypointExecutor:
    """Hands out the first `replan_every` waypoints of a chunk, each from the one before it, then asks for a new chunk.

    A robot that reaches a waypoint moves on from there, so what it is given next has to be written in its new frame,
    whatever the model's chunk is measured from. A chunk that says stop is not carried out: `stopped` is true from then
    on, and every further waypoint is no motion.

    Args:
        replan_every: Waypoints carried out of each chunk, at least 1; all of a shorter chunk.
        reading: What the waypoints of the model are measured from.
        stop: When a whole chunk, not only its beginning, means a stop; `StopRule()` where None.

    Raises:
        SettingError: If `replan_every` is below 1, or `reading` is unknown.

    Examples:
        >>> executor = WaypointExecutor(replan_every=2, reading="from_start")
        >>> executor.give(np.array([[0.5, 0.0, 0.0], [1.0, 0.0, 0.0], [1.5, 0.0, 0.0]]))
        >>> executor.next(), executor.next(), executor.needs_chunk
        (array([0.5, 0. , 0. ]), array([0.5, 0. , 0. ]), True)
        >>> executor.give(np.zeros((3, 3)))
        >>> executor.stopped, executor.next()
        (True, array([0., 0., 0.]))

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5.1.3: 8 waypoints per chunk, carried out over a sliding window in VLN-CE.
        How many of a chunk are carried out, and how a stop is said, is not published.
    """

    def __init__(
        self, *, replan_every: int, reading: WaypointReading = "consecutive", stop: StopRule | None = None
    ) -> None:
        check_reading(reading)
        self._executor = ChunkExecutor(replan_every=replan_every)
        self.replan_every = replan_every
        self.reading = reading
        self.stop = StopRule() if stop is None else stop
        self._stopped = False

    @property
    def needs_chunk(self) -> bool:
        """True where the next waypoint needs a new chunk; never again after a stop."""
        return not self._stopped and self._executor.needs_chunk

    @property
    def stopped(self) -> bool:
        """True once a chunk has said stop."""
        return self._stopped

    def reset(self) -> None:
        """Forget chunk and stop, as a new episode wants."""
        self._executor.reset()
        self._stopped = False

    def give(self, chunk: Float[np.ndarray, "step 3"]) -> None:
        """Replace what is left by the beginning of a new chunk.

        Args:
            chunk: Waypoints of the model, in m and rad, from the robot's present pose.

        Raises:
            ShapeError: If the chunk is empty or has not three channels.
        """
        steps = _consecutive(chunk, self.reading)
        self._stopped = bool(self.stop(torch.from_numpy(steps)))
        self._executor.give(steps)

    def next(self) -> Float[np.ndarray, "3"]:
        """Next waypoint, from the pose where the robot stands.

        Raises:
            SettingError: If a new chunk is due.
        """
        return np.zeros(3) if self._stopped else self._executor.next()


class _ChunkPolicy(Protocol):
    """What is wrapped; `Policy` has it."""

    def act(
        self, observations: Sequence[PolicyObservation], *, generator: Sequence[Generator]
    ) -> list[Float[np.ndarray, "step size"]]:
        """Answer each observation with a chunk."""
        ...


class WaypointPolicy:
    """A policy of waypoints for an evaluation, which carries out every action from where the robot then stands.

    Chunks come back `consecutive`, and a chunk that says stop as no motion at all, so that the noise of a sampled chunk
    does not keep a robot from standing still.

    Args:
        policy: Answers with waypoints, such as `Policy`; all its robots navigate.
        reading: What its waypoints are measured from.
        stop: When a whole chunk means a stop; `StopRule()` where None.

    Raises:
        SettingError: If `reading` is unknown.

    Examples:
        >>> class Ahead:
        ...     def act(self, observations, *, generator):
        ...         return [np.array([[0.5, 0.0, 0.0], [1.0, 0.0, 0.0]]), np.full((2, 3), 0.01)]
        >>> ahead, still = WaypointPolicy(Ahead(), reading="from_start").act([], generator=[])
        >>> ahead.tolist(), still.tolist()
        ([[0.5, 0.0, 0.0], [0.5, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    """

    def __init__(
        self, policy: _ChunkPolicy, *, reading: WaypointReading = "consecutive", stop: StopRule | None = None
    ) -> None:
        check_reading(reading)
        self.policy = policy
        self.reading = reading
        self.stop = StopRule() if stop is None else stop

    def act(
        self, observations: Sequence[PolicyObservation], *, generator: Sequence[Generator]
    ) -> list[Float[np.ndarray, "step 3"]]:
        """Answer each observation with waypoints, each from the one before it.

        Args:
            observations: As the policy takes them.
            generator: One CPU generator per observation.

        Returns:
            Chunks in m and rad, float64.

        Raises:
            ShapeError: If the policy answers with other actions than waypoints.
        """
        chunks = [_consecutive(one, self.reading) for one in self.policy.act(observations, generator=generator)]
        return [np.zeros_like(one) if bool(self.stop(torch.from_numpy(one))) else one for one in chunks]


def _consecutive(chunk: Float[np.ndarray, "step 3"], reading: WaypointReading) -> Float[np.ndarray, "step 3"]:
    if chunk.ndim != 2 or chunk.shape[1] != 3 or len(chunk) == 0:
        raise ShapeError(f"chunk must have the shape (step, 3), got {chunk.shape}. Give waypoints (dx, dy, dtheta).")
    exact = torch.from_numpy(np.array(chunk, dtype=np.float64))
    steps: np.ndarray = convert_waypoints(exact, reading, "consecutive").numpy()
    return steps
