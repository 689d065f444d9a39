"""How a robot that only knows waypoints says that it has arrived: it stands still for a while.

Light on purpose: a worker process imports it, and not torch.
"""

import math
from collections import deque

import numpy as np

from vla_kit.envs.protocol import Action
from vla_kit.errors import SettingError

__all__ = ["StandingStill"]


class StandingStill:
    """Tells a stop by the last few waypoints that were asked for, together; the rule of `vla_kit.actions.StopRule`.

    What is asked for counts, not what is reached: pushing against a wall is no stop.

    Args:
        steps: Decisions in a row, at least 1.
        distance_m: Longest way of them in all [m].
        angle_rad: Most turning of them in all [rad].

    Raises:
        SettingError: If a number is too small or not finite.

    Examples:
        >>> still = StandingStill(steps=2, distance_m=0.1, angle_rad=0.1)
        >>> [still(np.array(asked)) for asked in ([0.4, 0.0, 0.0], [0.0, 0.0, 0.0], [0.05, 0.0, 0.0])]
        [False, False, True]
    """

    def __init__(self, *, steps: int, distance_m: float, angle_rad: float) -> None:
        if steps < 1:
            raise SettingError(f"steps must be at least 1, got {steps}. Count decisions.")
        for name, value in (("distance_m", distance_m), ("angle_rad", angle_rad)):
            if not 0 <= value < math.inf:
                raise SettingError(f"{name} must be at least 0 and finite, got {value}. Give half a small step.")
        self.distance_m, self.angle_rad = distance_m, angle_rad
        self._asked: deque[Action] = deque(maxlen=steps)

    def reset(self) -> None:
        """Forget everything, as a new episode wants."""
        self._asked.clear()

    def __call__(self, waypoint: Action) -> bool:
        """Note a waypoint, measured from the one before it, and tell whether the robot has stopped."""
        self._asked.append(np.array(waypoint, dtype=np.float64))
        asked = np.stack(self._asked)
        still = np.linalg.norm(asked[:, :2], axis=1).sum() <= self.distance_m
        still &= np.abs(asked[:, 2]).sum() <= self.angle_rad
        return len(asked) == self._asked.maxlen and bool(still)
