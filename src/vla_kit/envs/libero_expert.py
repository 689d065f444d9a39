"""A scripted expert for LIBERO's suites `spatial` and `object`: pick one object up, put it on or into another."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from vla_kit.envs.libero import LiberoEnv
from vla_kit.envs.protocol import Action, SimulationError
from vla_kit.errors import SettingError

__all__ = ["LiberoExpert"]

_UP: Final = np.array([0.0, 0.0, 1.0])
_QUARTER_TURN: Final = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
_OPEN, _CLOSED = -1.0, 1.0
_GAIN: Final = 10.0  # of an action per metre: half the way per decision
_TURN_GAIN: Final = 2.0
_TURN_LIMIT: Final = 0.5
_ABOVE_M: Final = 0.12
_LIFT_M: Final = 0.2
_CLEAR_M: Final = 0.05
_HELD_M: Final = 0.03
"""An object that rose less than this while the hand rose by `_LIFT_M` is not held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grip:
    """How a suite's objects are taken and put down.

    Args:
        grasp: From the object's origin to the point between the fingers when they close [m].
        release: Height of that point above the destination's origin when they open [m].
    """

    grasp: tuple[float, float, float]
    release: float


_GRIPS: Final = {
    "object": _Grip(grasp=(0.0, 0.0, -0.01), release=0.18),  # from above, dropped into a basket
    "spatial": _Grip(grasp=(0.0, 0.05, 0.02), release=0.08),  # a bowl by its rim, set on a plate
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Phase:
    """One straight move, or a wait where `target` is the place of the hand itself.

    Args:
        target: Where the point between the fingers shall be [m].
        gripper: Command of the gripper.
        near: The phase ends within this distance [m]; 0 waits for all decisions.
        decisions: The phase ends after so many decisions in any case.
    """

    target: Float[np.ndarray, " 3"]
    gripper: float
    near: float
    decisions: int


class LiberoExpert:
    """Picks up the object that a task names and puts it down at its destination. It reads the true state.

    It goes on from wherever the hand is. Where the object is not in the hand after all, because it slipped or the wide
    hand met a neighbour, it tries again with the hand turned by 90 degrees. It cannot turn an object or make room, and
    it does not solve every scene: `docs/results/libero.json` holds what was measured.

    Args:
        env: The environment to act in.

    Raises:
        SettingError: If the task is of another suite than `spatial` and `object`.

    Examples:
        ```python
        env = LiberoEnv("object-0")
        expert = LiberoExpert(env)
        env.reset(10_000)
        expert.reset()
        expert.act().shape  # (7,)
        ```
    """

    def __init__(self, env: LiberoEnv) -> None:
        suite = env.task.removeprefix("libero/").rpartition("-")[0]
        if suite not in _GRIPS:
            raise SettingError(
                f"env must run a task of the suites {list(_GRIPS)}, got {env.task!r}. No expert knows the others: "
                "evaluate them with baseline_episodes 0."
            )
        self._env = env
        self._grip = _GRIPS[suite]
        self._begun = False

    def reset(self) -> None:
        """Prepare for the episode that the environment has just begun.

        Raises:
            SimulationError: If no episode was begun.
        """
        if not self._env._begun:
            raise SimulationError("reset must come after reset of the environment, got no episode. Call reset(seed).")
        self._object, self._destination = self._env._simulator.obj_of_interest[:2]
        self._straight = self._orientation()
        self._yaw = np.eye(3)
        self._begun = True
        self._answered = -1
        self._start(0)

    def act(self) -> Action:
        """Action for the current decision.

        Raises:
            SimulationError: If the expert was not reset.
        """
        if not self._begun:
            raise SimulationError("act must come after reset of the expert, got no plan. Call expert.reset() first.")
        if self._env._decisions != self._answered:
            self._answered = self._env._decisions
            self._answer = self._decide()
        return self._answer.copy()

    def _decide(self) -> Action:
        while self._over():
            self._start(self._next())
        self._left -= 1
        move = np.clip((self._phase.target - self._hand()) * _GAIN, -1.0, 1.0)
        turn = np.clip(
            _rotation_between(self._orientation(), self._yaw @ self._straight) * _TURN_GAIN, -_TURN_LIMIT, _TURN_LIMIT
        )
        return np.array([*move, *turn, self._phase.gripper])

    def _over(self) -> bool:
        near = float(np.linalg.norm(self._phase.target - self._hand())) < self._phase.near
        return near or self._left <= 0

    def _next(self) -> int:
        """Number of the following phase: the first one again where the object is not in the hand, and at the end."""
        if self._number == 3 and self._place(self._object)[2] - self._lies < _HELD_M:
            self._yaw = np.eye(3) if self._yaw is _QUARTER_TURN else _QUARTER_TURN
            return 0
        return (self._number + 1) % 8

    def _start(self, number: int) -> None:
        """Aim a phase at where things are now."""
        self._number = number
        hand = self._hand()
        if number == 0:
            self._lies = float(self._place(self._object)[2])
            self._goal = self._place(self._object) + self._yaw @ self._grip.grasp
            phase = _Phase(target=self._goal + _ABOVE_M * _UP, gripper=_OPEN, near=0.008, decisions=80)
        elif number == 1:
            phase = _Phase(target=self._goal, gripper=_OPEN, near=0.006, decisions=30)
        elif number == 2:
            phase = _Phase(target=hand, gripper=_CLOSED, near=0.0, decisions=12)
        elif number == 3:
            phase = _Phase(target=hand + _LIFT_M * _UP, gripper=_CLOSED, near=0.02, decisions=60)
        elif number == 4:
            self._goal = self._place(self._destination)
            self._goal[:2] += (hand - self._place(self._object))[:2]  # where in the hand the object is
            self._goal[2] += self._grip.release
            over = np.array([*self._goal[:2], max(hand[2], self._goal[2] + _CLEAR_M)])
            phase = _Phase(target=over, gripper=_CLOSED, near=0.015, decisions=100)
        elif number == 5:
            phase = _Phase(target=self._goal, gripper=_CLOSED, near=0.01, decisions=40)
        elif number == 6:
            phase = _Phase(target=hand, gripper=_OPEN, near=0.0, decisions=12)
        else:
            phase = _Phase(target=hand + _ABOVE_M * _UP, gripper=_OPEN, near=0.02, decisions=20)
        self._phase, self._left = phase, phase.decisions

    def _hand(self) -> Float[np.ndarray, " 3"]:
        position: np.ndarray = self._env._data.site_xpos[self._robot.eef_site_id].copy()
        return position

    def _orientation(self) -> Float[np.ndarray, "3 3"]:
        return np.array(self._env._data.body(self._robot.robot_model.eef_name).xmat).reshape(3, 3)

    def _place(self, name: str) -> Float[np.ndarray, " 3"]:
        position: np.ndarray = self._env._data.xpos[self._env._simulator.env.obj_body_id[name]].copy()
        return position

    @property
    def _robot(self) -> Any:  # noqa: ANN401  (robosuite's SingleArm)
        return self._env._simulator.robots[0]


def _rotation_between(now: Float[np.ndarray, "3 3"], wanted: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, " 3"]:
    """Rotation from one orientation to another along the world's axes [rad], for small angles."""
    turn: np.ndarray = 0.5 * np.cross(now, wanted, axis=0).sum(axis=1)
    return turn
