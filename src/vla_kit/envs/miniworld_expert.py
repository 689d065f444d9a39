"""A demonstrator for MiniWorld's tasks: it knows the layout, and looks for what it cannot see."""

import math
from itertools import pairwise
from typing import Final

import numpy as np

from vla_kit.envs.miniworld import MiniWorldEnv
from vla_kit.envs.protocol import Action, SimulationError

__all__ = ["MiniWorldExpert"]

_SPEED_M: Final = 0.4
_TURN_RAD: Final = math.pi / 6
_AHEAD_M: Final = 0.8
_KEEP_M: Final = 0.95
_BACK_M: Final = 0.2
_ARRIVED_M: Final = 0.15
_CLOSE_M: Final = 0.06
_SEEN_RAD: Final = math.radians(36)


class MiniWorldExpert:
    """Walks the shortest way, 35 cm from every obstacle, and stands still at its end.

    It drives like a robot with two wheels: forward along an arc that bends to a point 80 cm ahead on its way, or on the
    spot where that point is not in front of it. An object or a target that is out of its view it looks for by turning
    left, as somebody must who does not know the layout; a policy could not learn the choice of a side from pictures.
    A target is followed at 95 cm, and left room where it comes nearer.

    Args:
        env: The environment to act in.

    Examples:
        >>> env = MiniWorldEnv("find-object")
        >>> expert = MiniWorldExpert(env)
        >>> _ = env.reset(0)
        >>> expert.reset()
        >>> expert.act().shape
        (3,)
        >>> env.close()
    """

    def __init__(self, env: MiniWorldEnv) -> None:
        self._env = env

    def reset(self) -> None:
        """Nothing to forget: every decision is made from the present pose."""

    def act(self) -> Action:
        """Waypoint for the current decision.

        Raises:
            SimulationError: If no episode was begun.
        """
        paths = self._env._paths
        if paths is None:
            raise SimulationError("act must come after reset of the environment, got no episode. Call reset(seed).")
        place, heading = self._env._pose[:2], self._env._pose[2]
        target = self._env._target()
        goal = np.array(self._env._scene.goal) if target is None else target
        away = float(np.linalg.norm(goal - place))
        bearing = _bearing(place, heading, goal)
        named = bool(self._env._scene.objects)
        if named and abs(bearing) > _SEEN_RAD and away > _KEEP_M:
            return np.array([0.0, 0.0, _TURN_RAD])
        if target is not None:
            return _approach(away - _KEEP_M, bearing)
        way = paths.path(place)
        if way is None:
            return np.zeros(3)
        left = float(np.linalg.norm(np.diff(way, axis=0), axis=1).sum())
        if named and len(way) == 2:
            return _approach(left - _KEEP_M, bearing)
        if not named and left <= _ARRIVED_M:
            return np.zeros(3)
        return _drive(_bearing(place, heading, _along(way, _AHEAD_M)), min(_SPEED_M, left))


def _bearing(place: np.ndarray, heading: float, point: np.ndarray) -> float:
    """Direction of a point, against the heading."""
    return math.remainder(math.atan2(point[1] - place[1], point[0] - place[0]) - heading, 2 * math.pi)


def _approach(missing: float, bearing: float) -> Action:
    """Go up to something that is looked at, and stand still there."""
    if abs(missing) <= _CLOSE_M and abs(bearing) <= _TURN_RAD / 2:
        return np.zeros(3)
    return _drive(bearing, float(np.clip(missing, -_BACK_M, _SPEED_M)))


def _drive(bearing: float, speed: float) -> Action:
    """Half a second along an arc, or on the spot: the waypoint at its end."""
    turn = float(np.clip(bearing, -_TURN_RAD, _TURN_RAD))
    if abs(bearing) > _TURN_RAD:
        return np.array([0.0, 0.0, turn])
    if abs(turn) < 1e-6:
        return np.array([speed, 0.0, 0.0])
    return np.array([speed * math.sin(turn) / turn, speed * (1 - math.cos(turn)) / turn, turn])


def _along(way: np.ndarray, ahead: float) -> np.ndarray:
    """Point of a way so far from its beginning, or its end."""
    for begin, end in pairwise(way):
        length = float(np.linalg.norm(end - begin))
        if length >= ahead:
            point: np.ndarray = begin + (end - begin) * (ahead / length)
            return point
        ahead -= length
    last: np.ndarray = way[-1]
    return last
