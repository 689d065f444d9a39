"""gym-aloha: two ViperX arms hand over a cube, one action being 14 absolute joint and gripper targets.

Needs `pip install 'vla-kit[aloha]'`. See `mujoco_camera` for what rendering needs.
"""

from collections import OrderedDict
from typing import Any, Final

import numpy as np

from vla_kit.envs.mujoco_camera import FreeCamera
from vla_kit.envs.protocol import Action, Pictures, SimulationError, State, StepResult, check_action, check_seed
from vla_kit.envs.tasks import find_task
from vla_kit.errors import MissingExtraError, SettingError

try:
    from dm_control import mujoco as dm_mujoco
    from dm_control.rl import control
    from gym_aloha.constants import (
        ASSETS_DIR,
        DT,
        START_ARM_POSE,
        normalize_puppet_gripper_position,
    )
    from gym_aloha.tasks.sim import BimanualViperXTask, TransferCubeTask
    from gym_aloha.utils import sample_box_pose
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "gym_aloha", extra="aloha") from error

__all__ = ["AlohaEnv"]

_VIEW: Final = "cam_high"
_SUCCESS_REWARD: Final = 4
"""The left gripper holds the cube, and the cube has left the table."""


class _Handover(TransferCubeTask):
    """gym-aloha's task without its three 640 x 480 pictures per step and without its global box position."""

    box_pose: np.ndarray

    def initialize_episode(self, physics: Any) -> None:  # noqa: ANN401  (dm_control Physics)
        with physics.reset_context():
            physics.named.data.qpos[:16] = START_ARM_POSE
            np.copyto(physics.data.ctrl, START_ARM_POSE)
            physics.named.data.qpos[-7:] = self.box_pose
        BimanualViperXTask.initialize_episode(self, physics)

    def get_observation(self, physics: Any) -> OrderedDict[str, Any]:  # noqa: ANN401
        return OrderedDict()


class AlohaEnv:
    """The cube handover of gym-aloha, decided at a fraction of the simulator's 50 Hz.

    An action has 14 entries: six joint angles [rad] and a gripper opening (0 closed, 1 open) of the left arm, then of
    the right arm, all absolute targets. **The target moves on a straight line from the last decision's action to the
    new one within `frame_skip` simulator steps.** Holding each target instead loses the cube in every third
    handover at 12.5 Hz.

    An episode is solved when the left gripper holds the cube clear of the table at any simulator step. The camera looks
    down on both grippers, the left arm at the left.

    Args:
        image_size: Height and width of a picture [pixels].
        frame_skip: Simulator steps per decision; 4 gives 12.5 Hz.
        max_steps: Decisions after which an unsolved episode ends.

    Raises:
        SettingError: If a number is not positive.

    Examples:
        >>> env = AlohaEnv()
        >>> env.reset(0)
        'transfer the red cube to the left gripper'
        >>> env.rate_hz
        12.5
        >>> env.close()

    Source:
        gym-aloha's version of the simulated transfer of ACT (Zhao et al. 2023, arXiv 2304.13705). Not a benchmark of
        the Qwen-VLA paper.
    """

    def __init__(self, *, image_size: int = 96, frame_skip: int = 4, max_steps: int = 60) -> None:
        if frame_skip < 1:
            raise SettingError(f"frame_skip must be >= 1, got {frame_skip}. 4 decides at 12.5 Hz.")
        if max_steps < 1:
            raise SettingError(f"max_steps must be >= 1, got {max_steps}. The expert needs 35 at 12.5 Hz.")
        self._task = find_task("aloha/transfer-cube")
        self._frame_skip = frame_skip
        self._max_steps = max_steps
        self._physics = dm_mujoco.Physics.from_xml_path(str(ASSETS_DIR / "bimanual_viperx_transfer_cube.xml"))
        self._handover = _Handover()
        self._simulator: Any = control.Environment(
            self._physics, self._handover, float("inf"), control_timestep=DT, flat_observation=False
        )
        self._camera = FreeCamera(
            self._physics.model.ptr,
            image_size=image_size,
            lookat=(0.05, 0.5, 0.1),
            distance=1.05,
            azimuth=90.0,
            elevation=-50.0,
        )
        limits = np.array(self._physics.model.actuator_ctrlrange)
        gripper = np.array([[0.0, 1.0]])
        both = np.concatenate([limits[0:6], gripper, limits[8:14], gripper])
        self._low, self._high = both[:, 0], both[:, 1]
        opening = float(normalize_puppet_gripper_position(START_ARM_POSE[6]))
        self._start = np.array([*START_ARM_POSE[0:6], opening, *START_ARM_POSE[8:14], opening])
        self._target = self._start
        self._instruction = ""
        self._begun = False
        self._decisions = 0
        self._done = True
        self._success = False

    @property
    def task(self) -> str:
        """Name in the registry."""
        return self._task.name

    @property
    def embodiment(self) -> str:
        """`aloha_transfer`."""
        return self._task.embodiment

    @property
    def view_tags(self) -> tuple[str, ...]:
        """One camera."""
        return (_VIEW,)

    @property
    def max_steps(self) -> int:
        """Decisions after which an unsolved episode ends."""
        return self._max_steps

    @property
    def rate_hz(self) -> float:
        """Decisions per simulated second [Hz]."""
        return 1.0 / (float(DT) * self._frame_skip)

    @property
    def action_low(self) -> Action:
        """Lowest targets the motors accept [rad]; 0 for grippers."""
        return self._low.copy()

    @property
    def action_high(self) -> Action:
        """Highest targets the motors accept [rad]; 1 for grippers."""
        return self._high.copy()

    @property
    def instruction(self) -> str:
        """What the robot is told; may be set after `reset`."""
        return self._instruction

    @instruction.setter
    def instruction(self, text: str) -> None:
        self._instruction = text

    def reset(self, seed: int) -> str:
        """Begin an episode; equal seeds give equal cube positions, those of gym-aloha.

        Args:
            seed: Number of the episode, in [0, 2**32).

        Returns:
            The instruction.

        Raises:
            SettingError: If the seed lies outside.
        """
        self._handover.box_pose = sample_box_pose(check_seed(seed))
        self._simulator.reset()
        self._target = self._start
        self._instruction = self._task.instruction(seed)
        self._decisions = 0
        self._begun = True
        self._done = self._success = False
        return self._instruction

    def look(self) -> Pictures:
        """Render the scene now.

        Returns:
            View tag -> RGB in [0, 255].

        Raises:
            SimulationError: If rendering fails, the picture is constant, or no episode was begun.
        """
        if not self._begun:
            raise SimulationError("look must come after reset, got no episode. Call reset(seed) first.")
        return {_VIEW: self._camera.render(self._physics.data.ptr, tag=_VIEW)}

    def robot_state(self) -> State:
        """What the robot measures of itself now; nothing of the cube.

        Returns:
            14 entries in the order of an action: six joint angles [rad] and the opening of the gripper (0 closed, 1
            open; a little beyond is possible) of the left arm, then of the right arm.

        Raises:
            SimulationError: If no episode was begun.
        """
        if not self._begun:
            raise SimulationError("robot_state must come after reset, got no episode. Call reset(seed) first.")
        measured: np.ndarray = BimanualViperXTask.get_qpos(self._physics)
        return measured

    def step(self, action: Action) -> StepResult:
        """Move the targets to a new action within `frame_skip` simulator steps, or until the task is solved.

        Args:
            action: 14 targets, clipped to what the motors accept.

        Returns:
            Success so far, and whether the episode is over. A simulation that became unstable is over, unsolved.

        Raises:
            ShapeError: If the action does not have 14 entries.
            SettingError: If an entry is NaN or infinite.
            SimulationError: If the episode is over or was never begun.
        """
        clipped = np.clip(check_action(action, size=14), self._low, self._high)
        if self._done:
            raise SimulationError("step must come in a running episode, got one that is over. Call reset(seed) first.")
        unstable = False
        for part in range(1, self._frame_skip + 1):
            target = self._target + (clipped - self._target) * (part / self._frame_skip)
            try:
                reward = self._simulator.step(target).reward
            except control.PhysicsError:
                unstable = True
                break
            if reward == _SUCCESS_REWARD:
                self._success = True
                break
        self._target = clipped
        self._decisions += 1
        self._done = self._success or unstable or self._decisions >= self._max_steps
        return StepResult(success=self._success, done=self._done)

    def close(self) -> None:
        """Free the renderer."""
        self._camera.close()
        self._done = True
        self._begun = False
