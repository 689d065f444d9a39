"""Plan trajectories: from a number and a seed to joint positions on a clock, feasible and free of collisions."""

import zlib
from dataclasses import dataclass
from math import ceil
from typing import Final

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.random import Generator

from vla_kit.data.synthesis.arm_model import ArmModel
from vla_kit.data.synthesis.template_names import TemplateName
from vla_kit.data.synthesis.templates import DrawnTask, Grip, Move, Workspace, draw_task
from vla_kit.data.synthesis.timing import time_path
from vla_kit.errors import DataError

__all__ = ["PlannedTrajectory", "plan"]

_ATTEMPTS: Final = 200
_SPACING_M: Final = 0.02  # of the poses on a straight line
_SPACING_RAD: Final = 0.1
_JUMP_RAD: Final = 0.5  # between neighbouring poses on a line: another branch of the inverse kinematics
_FARTHEST_RAD: Final = 3.0  # of one joint in a free move: it would wind up
_PAUSE_STEPS: Final = (2, 8)
_GRIP_S: Final = 0.6  # from open to closed


@dataclass(frozen=True, kw_only=True)
class PlannedTrajectory:
    """One task done by one arm, at the rate of the planner.

    Args:
        robot: Name of the arm.
        template: Kind of task.
        instruction: What to do.
        parts: Sentences of the task's parts.
        position: Joint positions [rad].
        velocity: Joint velocities [rad/s].
        eef_pose: Position [m] and quaternion (scalar last, at least 0) of the tool in the base's frame.
        gripper: Opening; 0 is closed, 1 is open.
        part: Which part a step belongs to.
        seed: Number of the trajectory.
        attempts: Scenes drawn until one could be done.
    """

    robot: str
    template: TemplateName
    instruction: str
    parts: tuple[str, ...]
    position: Float[ndarray, "step joint"]
    velocity: Float[ndarray, "step joint"]
    eef_pose: Float[ndarray, "step 7"]
    gripper: Float[ndarray, " step"]
    part: Int[ndarray, " step"]
    seed: int
    attempts: int

    @property
    def action(self) -> Float[ndarray, "step size"]:
        """Joint positions and gripper of the next step; the last step stays where it is."""
        rows = np.concatenate([self.position, self.gripper[:, None]], axis=1)
        return np.concatenate([rows[1:], rows[-1:]])


def plan(
    model: ArmModel, template: TemplateName, *, number: int, seed: int = 0, rate_hz: float = 50.0
) -> PlannedTrajectory:
    """Plan one trajectory; it depends on the arm, the template, the number and the seed, and on nothing else.

    Scenes are drawn until one can be done: every pose reached, every line followed without a jump to another branch
    of the inverse kinematics, no step touching the table or the arm itself.

    Args:
        model: The arm.
        template: Kind of task.
        number: Which trajectory.
        seed: Seed of the corpus.
        rate_hz: Steps per second.

    Raises:
        DataError: If none of 200 scenes can be done, for the arm's workspace is wrong.
    """
    name = model.arm.name
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), zlib.crc32(template.encode()), number])
    workspace = Workspace(radius_m=model.arm.radius_m, yaw=model.home_yaw)
    for attempt in range(1, _ATTEMPTS + 1):
        task = draw_task(template, workspace, rng)
        rows = _Rows(model, rng, opening=task.opening, rate_hz=rate_hz)
        if not _follow(rows, task):
            continue
        position = np.array(rows.position)
        eef_pose = _checked(model, position)
        if eef_pose is not None:
            return PlannedTrajectory(
                robot=name,
                template=template,
                instruction=task.instruction,
                parts=tuple(part.instruction for part in task.parts),
                position=position.astype(np.float32),
                velocity=np.array(rows.velocity, dtype=np.float32),
                eef_pose=eef_pose.astype(np.float32),
                gripper=np.array(rows.gripper, dtype=np.float32),
                part=np.array(rows.part, dtype=np.int64),
                seed=number,
                attempts=attempt,
            )
    raise DataError(
        f"{name} must be able to do {template} in its workspace, got no feasible scene of {_ATTEMPTS}. "
        "Correct its radius_m, home or tool."
    )


class _Rows:
    """Steps planned so far, and the speeds drawn for this trajectory."""

    def __init__(self, model: ArmModel, rng: Generator, *, opening: float, rate_hz: float) -> None:
        self.model, self.rng, self.rate_hz = model, rng, rate_hz
        self.joints = model.home + rng.uniform(-0.08, 0.08, size=len(model.home))
        self.share = rng.uniform(0.4, 0.9)
        self.speed_m_s = rng.uniform(0.15, 0.4)
        self.position = [self.joints]
        self.velocity = [np.zeros_like(self.joints)]
        self.gripper = [opening]
        self.part = [0]

    def add(self, positions: ndarray, velocities: ndarray, gripper: ndarray, part: int) -> None:
        self.position.extend(positions)
        self.velocity.extend(velocities)
        self.gripper.extend(gripper)
        self.part.extend([part] * len(positions))

    def rest(self, gripper: ndarray, part: int) -> None:
        still = np.repeat(self.joints[None], len(gripper), axis=0)
        self.add(still, np.zeros_like(still), gripper, part)


def _follow(rows: _Rows, task: DrawnTask) -> bool:
    for part, described in enumerate(task.parts):
        for action in described.actions:
            if isinstance(action, Grip):
                _grip(rows, action, part)
            elif not _move(rows, action, part):
                return False
    return True


def _grip(rows: _Rows, action: Grip, part: int) -> None:
    steps = max(1, int(np.ceil(abs(action.opening - rows.gripper[-1]) * _GRIP_S * rows.rate_hz)))
    rows.rest(np.linspace(rows.gripper[-1], action.opening, steps + 1)[1:], part)
    rows.rest(np.full(int(rows.rng.integers(*_PAUSE_STEPS)), action.opening), part)


def _move(rows: _Rows, action: Move, part: int) -> bool:
    model = rows.model
    goal = np.array(action.position)
    at, rotation = model.pose(rows.joints)
    if action.straight:
        postures = _line(model, rows.joints, at, rotation, goal, action.yaw)
    else:
        near = model.home.copy()
        near[0] += np.arctan2(goal[1], goal[0])
        found = model.solve(goal, _downward(action.yaw), near=near)
        wound = found is None or np.abs(found - rows.joints).max() > _FARTHEST_RAD
        postures = None if found is None or wound else np.array([rows.joints, found])
    if postures is None:
        return False
    positions, velocities = time_path(
        postures,
        max_velocity=rows.share * model.max_velocity,
        max_acceleration=rows.share * model.max_acceleration,
        length_m=float(np.linalg.norm(goal - at)),
        max_speed_m_s=rows.speed_m_s,
        rate_hz=rows.rate_hz,
    )
    if len(positions):
        rows.add(positions, velocities, np.full(len(positions), rows.gripper[-1]), part)
        rows.joints = positions[-1]
    return True


def _line(
    model: ArmModel, joints: ndarray, at: ndarray, rotation: ndarray, goal: ndarray, yaw: float
) -> Float[ndarray, "posture joint"] | None:
    start = float(np.arctan2(rotation[1, 0], rotation[0, 0]))
    turn = (yaw - start + np.pi) % (2 * np.pi) - np.pi
    length = float(np.linalg.norm(goal - at))
    num_poses = max(2, ceil(length / _SPACING_M), ceil(abs(turn) / _SPACING_RAD))
    postures = [joints]
    for share in np.linspace(0.0, 1.0, num_poses + 1)[1:]:
        found = model.solve(at + share * (goal - at), _downward(start + share * turn), near=postures[-1])
        if found is None or np.abs(found - postures[-1]).max() > _JUMP_RAD:
            return None
        postures.append(found)
    return np.array(postures)


def _downward(yaw: float) -> Float[ndarray, "3 3"]:
    """A tool that points down, its x axis at `yaw`."""
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.array([[cosine, sine, 0.0], [sine, -cosine, 0.0], [0.0, 0.0, -1.0]])


def _checked(model: ArmModel, positions: Float[ndarray, "step joint"]) -> Float[ndarray, "step 7"] | None:
    """Tool poses of all steps; None where a step collides or leaves the joints' limits."""
    if ((positions < model.lower) | (positions > model.upper)).any():
        return None
    poses = np.empty((len(positions), 7))
    for step, joints in enumerate(positions):
        if model.collides(joints):
            return None
        poses[step, :3], poses[step, 3:] = model.tool_pose()
    return poses
