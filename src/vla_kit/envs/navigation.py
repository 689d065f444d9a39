"""What a navigation environment tells of an episode when it is over, for the measures of the field."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from vla_kit.envs.protocol import PolicyEnv

__all__ = ["Navigating", "NavigationTrace", "navigation_trace"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NavigationTrace:
    """Where the robot went in an episode, and how far it was from its goal.

    Args:
        path: Places of the robot, in the plane or in space, the start first [m].
        goal_distances: Shortest way from each place to the goal [m].
        shortest_m: Shortest way from start to goal [m].
        stopped: Whether the robot stopped by itself.
        success_m: Distance to the goal within which a stop is a success [m].
        reference: The way that was meant, both ends included [m].
    """

    path: Float[np.ndarray, "step size"]
    goal_distances: Float[np.ndarray, " step"]
    shortest_m: float
    stopped: bool
    success_m: float
    reference: Float[np.ndarray, "point size"]


@runtime_checkable
class Navigating(Protocol):
    """An environment whose robot goes somewhere."""

    def navigation_trace(self) -> NavigationTrace:
        """The episode so far."""
        ...


def navigation_trace(env: PolicyEnv) -> NavigationTrace | None:
    """Where the robot of an environment went in its episode.

    Args:
        env: In an episode, or after one.

    Returns:
        The trace; None where the environment is not `Navigating`.

    Raises:
        SimulationError: If no episode was begun.
    """
    return env.navigation_trace() if isinstance(env, Navigating) else None
