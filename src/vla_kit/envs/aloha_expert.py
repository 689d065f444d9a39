"""A scripted handover for gym-aloha: waypoints of both fingertips, solved into joint targets at reset."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from vla_kit.envs.aloha import AlohaEnv
from vla_kit.envs.aloha_kinematics import ArmKinematics
from vla_kit.envs.protocol import Action, SimulationError

__all__ = ["AlohaTransferExpert"]

_RIGHT: Final = np.array([1.0, 0.0, 0.0])
_UP: Final = np.array([0.0, 0.0, 1.0])
_MEETING_POINT: Final = np.array([0.0, 0.5, 0.25])
_CUBE_HEIGHT_M: Final = 0.02
_STEEP: Final = np.deg2rad(70.0)
_FLAT: Final = np.deg2rad(15.0)
_SIDEWAYS: Final = np.deg2rad(90.0)
_PLAN_S: Final = 3.0
_DECIMALS: Final = 3
"""Targets are rounded to 0.001 rad, finer than the encoders of the real motors: a joint that the plan leaves alone is
then exactly constant, and no normaliser blows up its numerical noise."""


@dataclass(frozen=True, slots=True)
class _Waypoint:
    """Where the fingertips shall be at `time` [s]; angles in rad, `gripper` is 0 closed to 1 open."""

    time: float
    point: np.ndarray
    pitch: float
    roll: float
    gripper: float


class AlohaTransferExpert:
    """Picks up the cube with the right arm and hands it to the left one.

    The plan of an episode takes 3 s of simulated time and is solved at `reset` from the true position of the cube; it
    is not corrected later. Once it is over, the last targets are held.

    Args:
        env: The environment to act in.

    Examples:
        >>> env = AlohaEnv()
        >>> expert = AlohaTransferExpert(env)
        >>> _ = env.reset(0)
        >>> expert.reset()
        >>> expert.act().shape
        (14,)
        >>> env.close()
    """

    def __init__(self, env: AlohaEnv) -> None:
        self._env = env
        model = env._physics.model.ptr
        self._left = ArmKinematics(model, side="left")
        self._right = ArmKinematics(model, side="right")
        self._plan: np.ndarray | None = None

    def reset(self) -> None:
        """Plan the episode that the environment has just begun.

        Raises:
            SimulationError: If no episode was begun.
        """
        if not self._env._begun:
            raise SimulationError("reset must come after reset of the environment, got no episode. Call reset(seed).")
        positions = np.array(self._env._physics.data.qpos)
        left = [_now(self._left, positions), *_take()]
        right = [_now(self._right, positions), *_pick_and_give(positions[16:19].copy())]
        step_s = 1.0 / self._env.rate_hz
        plan = []
        for decision in range(round(_PLAN_S / step_s)):
            action = []
            for arm, path in ((self._left, left), (self._right, right)):
                goal = _at(path, (decision + 1) * step_s)
                positions = arm.solve(positions, point=goal.point, pitch=goal.pitch, roll=goal.roll)
                action.extend([*positions[arm.joints], goal.gripper])
            plan.append(action)
        self._plan = np.round(plan, _DECIMALS) + 0.0  # no negative zeros

    def act(self) -> Action:
        """Targets for the current decision.

        Raises:
            SimulationError: If there is no plan.
        """
        if self._plan is None:
            raise SimulationError("act must come after reset of the expert, got no plan. Call expert.reset() first.")
        action: np.ndarray = self._plan[min(self._env._decisions, len(self._plan) - 1)]
        return action.clip(self._env.action_low, self._env.action_high)


def _now(arm: ArmKinematics, positions: np.ndarray) -> _Waypoint:
    """Where an arm is when the episode begins; the plan closes its gripper at once."""
    return _Waypoint(0.0, arm.pose(positions)[0], arm.pitch(positions), 0.0, 0.0)


def _pick_and_give(cube: np.ndarray) -> list[_Waypoint]:
    """Above the cube, down, close, up, to the meeting point, wait, let go, back off."""
    grasp = np.array([cube[0], cube[1], _CUBE_HEIGHT_M])
    return [
        _Waypoint(0.6, grasp + 0.09 * _UP, _STEEP, 0.0, 1.0),
        _Waypoint(0.9, grasp, _STEEP, 0.0, 1.0),
        _Waypoint(1.15, grasp, _STEEP, 0.0, 0.0),
        _Waypoint(1.5, grasp + 0.12 * _UP, _STEEP, 0.0, 0.0),
        _Waypoint(1.9, _MEETING_POINT, _FLAT, 0.0, 0.0),
        _Waypoint(2.45, _MEETING_POINT, _FLAT, 0.0, 0.0),
        _Waypoint(2.55, _MEETING_POINT, _FLAT, 0.0, 1.0),
        _Waypoint(2.75, _MEETING_POINT + 0.12 * _RIGHT, _FLAT, 0.0, 1.0),
    ]


def _take() -> list[_Waypoint]:
    """Wait beside the meeting point with an open gripper, reach in, close."""
    beside, inside = _MEETING_POINT - 0.13 * _RIGHT, _MEETING_POINT - 0.005 * _RIGHT
    return [
        _Waypoint(1.0, beside, _FLAT, _SIDEWAYS, 1.0),
        _Waypoint(1.9, beside, _FLAT, _SIDEWAYS, 1.0),
        _Waypoint(2.2, inside, _FLAT, _SIDEWAYS, 1.0),
        _Waypoint(2.4, inside, _FLAT, _SIDEWAYS, 0.0),
    ]


def _at(path: list[_Waypoint], time: float) -> _Waypoint:
    """Interpolate a path; after its end, stay there."""
    for before, after in pairwise(path):
        if time <= after.time:
            part = (time - before.time) / (after.time - before.time)
            return _Waypoint(
                time,
                before.point + (after.point - before.point) * part,
                before.pitch + (after.pitch - before.pitch) * part,
                before.roll + (after.roll - before.roll) * part,
                before.gripper + (after.gripper - before.gripper) * part,
            )
    return path[-1]
