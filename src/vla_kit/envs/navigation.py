"""What a navigation environment tells of an episode when it is over, for the measures of the field."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from vla_kit.envs.protocol import PolicyEnv

__all__ = ["Navigating", "NavigationTrace", "navigation_trace", "places_along"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NavigationTrace:
    """Where the robot went in an episode, and how far it was from its goal.

    Args:
        path: Places of the robot, in the plane or in space, the start first [m].
        goal_distances: Shortest way from each place to the goal [m].
        shortest_m: Shortest way from start to goal [m].
        stopped: Whether the robot stopped by itself.
        success_m: Distance to the goal within which a stop is a success [m].
        reference: The way that was meant, both ends included [m]. nDTW compares places, not lines: give them about as
            densely as those of `path`.
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


def places_along(way: Float[np.ndarray, "corner size"], *, spacing_m: float) -> Float[np.ndarray, "point size"]:
    """Places at equal distances along a way that is given by its corners, both ends included.

    Args:
        way: Corners [m].
        spacing_m: Largest distance between neighbours along the way [m], above 0.

    Returns:
        Places; the one place of a way without length.

    Examples:
        >>> places_along(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 0.5]]), spacing_m=0.5).tolist()
        [[0.0, 0.0], [0.5, 0.0], [1.0, 0.0], [1.0, 0.5]]
    """
    walked = np.concatenate([[0.0], np.linalg.norm(np.diff(way, axis=0), axis=1).cumsum()])
    at = np.linspace(0, walked[-1], math.ceil(walked[-1] / spacing_m) + 1)
    return np.stack([np.interp(at, walked, axis) for axis in way.T], axis=1)
