"""Kinematics of one ALOHA arm: fingertip pose from joints, and joints from a pose by damped least squares."""

from typing import Any, Final

import numpy as np
from jaxtyping import Float

from vla_kit.envs._mujoco import mujoco
from vla_kit.errors import SettingError

__all__ = ["ArmKinematics", "orientation"]

_REACH_M: Final = 0.105
"""From the gripper's frame to the point between its fingertips, along its x axis [m]."""
_FOREARM_ROLL: Final = 3
_ROTATION_WEIGHT: Final = 0.3
"""How much 1 rad of rotation error counts against 1 m of position error."""
_DAMPING: Final = 1e-4
_LARGEST_TURN: Final = 0.2
"""Joint displacement per iteration [rad]: keeps a solution near the last one."""
_TOLERANCE: Final = 1e-4


def orientation(*, yaw: float, pitch: float, roll: float) -> Float[np.ndarray, " 4"]:
    """Orientation of a gripper: turned about the vertical, tilted downwards, then rolled about its own axis.

    Args:
        yaw: Heading of the gripper [rad]; 0 points along +x of the world.
        pitch: Tilt [rad]; positive points below the horizontal.
        roll: Turn about the pointing direction [rad].

    Returns:
        Unit quaternion (w, x, y, z).

    Examples:
        >>> orientation(yaw=np.pi, pitch=0.0, roll=0.0).round(3)
        array([0., 0., 0., 1.])
    """
    result = np.empty(4)
    mujoco.mju_euler2Quat(result, np.array([yaw, pitch, roll], dtype=np.float64), "zyx")
    return result


class ArmKinematics:
    """Where the fingertips of one arm are, and which joints bring them somewhere.

    Works on a scratch copy of the state: the simulation is not touched.

    The gripper is always asked to head away from the arm's own waist. Then the forearm never has to roll, five
    joints suffice, and near goals have near joints. With a free heading the forearm flips by half a turn whenever
    the wrist angle passes 0, to either side, depending on the cube: nothing that a policy could learn.

    Args:
        model: `mujoco.MjModel` of gym-aloha.
        side: `left` or `right`.

    Raises:
        SettingError: If `side` is neither.
    """

    def __init__(self, model: Any, *, side: str) -> None:  # noqa: ANN401  (mujoco.MjModel)
        if side not in ("left", "right"):
            raise SettingError(f"side must be 'left' or 'right', got {side!r}. ALOHA has two arms.")
        self._model = model
        self._data = mujoco.MjData(model)
        self._body = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, f"vx300s_{side}/gripper_link")
        self._waist = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, f"vx300s_{side}/waist")
        first_position, first_dof = int(model.jnt_qposadr[self._waist]), int(model.jnt_dofadr[self._waist])
        self.joints = slice(first_position, first_position + 6)
        moving = np.delete(np.arange(6), _FOREARM_ROLL)
        self._positions, self._dofs = first_position + moving, first_dof + moving
        self._low, self._high = model.jnt_range[self._waist + moving].T

    def pose(self, positions: Float[np.ndarray, " coordinate"]) -> tuple[np.ndarray, np.ndarray]:
        """Find the point between the fingertips.

        Args:
            positions: All generalised positions of the model.

        Returns:
            Position [m] and orientation, a unit quaternion (w, x, y, z), in the world.
        """
        self._data.qpos[:] = positions
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        forward = self._data.xmat[self._body].reshape(3, 3)[:, 0]
        return self._data.xpos[self._body] + _REACH_M * forward, self._data.xquat[self._body].copy()

    def pitch(self, positions: Float[np.ndarray, " coordinate"]) -> float:
        """Tilt of the gripper below the horizontal [rad].

        Args:
            positions: All generalised positions of the model.

        Returns:
            The angle, in [-pi / 2, pi / 2].
        """
        self.pose(positions)
        return float(-np.arcsin(np.clip(self._data.xmat[self._body].reshape(3, 3)[2, 0], -1.0, 1.0)))

    def solve(
        self,
        positions: Float[np.ndarray, " coordinate"],
        *,
        point: Float[np.ndarray, " 3"],
        pitch: float,
        roll: float,
        iterations: int = 30,
    ) -> Float[np.ndarray, " coordinate"]:
        """Move five joints of this arm until the fingertips reach a pose, or as near as they get.

        Args:
            positions: All generalised positions, where the search starts. The forearm roll stays as it is here.
            point: Wanted point between the fingertips, in the world [m].
            pitch: Wanted tilt below the horizontal [rad].
            roll: Wanted turn about the pointing direction [rad].
            iterations: Steps at most.

        Returns:
            Generalised positions with this arm's joints replaced, inside their limits.
        """
        result = positions.copy()
        self.pose(result)
        away = point - self._data.xanchor[self._waist]
        wanted = orientation(yaw=float(np.arctan2(away[1], away[0])), pitch=pitch, roll=roll)
        jacobian = np.zeros((6, self._model.nv))
        turn = np.empty(3)
        for _ in range(iterations):
            reached, facing = self.pose(result)
            mujoco.mju_subQuat(turn, wanted, facing)  # in the gripper's own frame
            world_turn = self._data.xmat[self._body].reshape(3, 3) @ turn
            error = np.concatenate([point - reached, _ROTATION_WEIGHT * world_turn])
            if np.linalg.norm(error) < _TOLERANCE:
                break
            mujoco.mj_jac(self._model, self._data, jacobian[:3], jacobian[3:], reached, self._body)
            arm = jacobian[:, self._dofs].copy()
            arm[3:] *= _ROTATION_WEIGHT
            change = arm.T @ np.linalg.solve(arm @ arm.T + _DAMPING * np.eye(6), error)
            moved = result[self._positions] + np.clip(change, -_LARGEST_TURN, _LARGEST_TURN)
            result[self._positions] = np.clip(moved, self._low, self._high)
        return result
