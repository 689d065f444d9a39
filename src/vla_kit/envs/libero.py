"""LIBERO: a Panda arm in household scenes, one action being a displacement of the hand and a gripper command.

Needs `pip install 'vla-kit[libero]'`. See `mujoco_camera` for what rendering needs.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from vla_kit.envs._libero_import import ControlEnv, load_initial_states, mujoco
from vla_kit.envs.libero_tasks import LIBERO_STEP_LIMITS, libero_file, libero_task
from vla_kit.envs.mujoco_camera import ModelCameras
from vla_kit.envs.protocol import Action, Pictures, SimulationError, State, StepResult, check_action, check_seed
from vla_kit.envs.seeds import EVALUATION_SEEDS_FROM
from vla_kit.errors import SettingError

__all__ = ["LiberoEnv", "libero_initial_state"]

_HZ: Final = 20
_CAMERAS: Final = ("agentview", "robot0_eye_in_hand")
_COLLISION_SHAPES: Final = 0  # robosuite's group of geoms that are there to touch, not to see
_SETTLING_STEPS: Final = 10
_REST: Final = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
_INITIAL_STATES: Final = 50
_ARM_NOISE_RAD: Final = 0.02  # robosuite's default, with which the initial states were drawn
_ARM_STREAM: Final = 7004
"""Keeps the draw of the arm independent of that of the objects, which starts from the same seed."""


class LiberoEnv:
    """One LIBERO task, decided at the benchmark's 20 Hz.

    An action has seven entries in [-1, 1]: displacement of the hand along x, y and z (1 is 5 cm), rotation as
    axis-angle (1 is 0.5 rad), both along the axes of the world, and the gripper, **-1 opens and 1 closes**, as in
    LIBERO's own demonstrations. OpenVLA's converted sets hold 1 for open and 0 for closed instead. A displacement sets
    the controller's target from where the hand is now, and in the 50 ms of a decision the hand gets only part of the
    way: ten actions of 0.2 move it by 2.5 cm, not by 10.

    **Seeds.** Seed `1_000_000 + i` with i below 50 begins at the benchmark's initial state i, so that
    `evaluation_seeds(50)` is the official evaluation. All other seeds place the objects anew, within the ranges from
    which those states were drawn, and move the arm as far from its rest: demonstrations recorded with seeds below
    1,000,000 never show an official scene. The ranges are narrow: in `object-0` the soup lies at one and the same place
    in all fifty states. Fixtures, such as cabinets, are no part of an initial state; LIBERO draws their place, a
    centimetre either way, at each reset, here from the seed. An episode begins after ten steps of rest, in which things
    settle; they do not count.

    An episode is solved when LIBERO reports that the goal holds after a step. Two views, both upright and as the camera
    sees them: the scene (`cam_high`, LIBERO's `agentview`) and the wrist (`cam_left_wrist`, the tag under which openpi
    too sees the wrist of a single arm). LIBERO's own observations have their rows upside down. Data sets converted for
    OpenVLA or openpi are rotated by 180 degrees, which mirrors them: `mirrored` gives a policy trained on those what it
    knows.

    Args:
        task: `<suite>-<index>`, such as `spatial-0`; suites are `spatial`, `object`, `goal`, `10` and `90`.
        image_size: Height and width of a picture [pixels].
        max_steps: Decisions after which an unsolved episode ends; that of the suite, `LIBERO_STEP_LIMITS`, where None.
        mirrored: Whether left and right of each picture are exchanged, as in sets rotated by 180 degrees.

    Raises:
        SettingError: If the task is unknown or a number is not positive.
        MissingExtraError: If LIBERO is not installed.

    Examples:
        ```python
        env = LiberoEnv("object-0")
        env.reset(1_000_000)  # 'pick up the alphabet soup and place it in the basket'
        env.step(np.zeros(7))  # StepResult(success=False, done=False)
        env.close()
        ```

    Source:
        LIBERO (Liu et al. 2023, arXiv 2306.03310). Step limits and settling are those of OpenVLA and openpi.
    """

    def __init__(
        self, task: str, *, image_size: int = 96, max_steps: int | None = None, mirrored: bool = False
    ) -> None:
        self._task = libero_task(task)
        limit = LIBERO_STEP_LIMITS[task.rpartition("-")[0]]
        self._max_steps = limit if max_steps is None else max_steps
        if self._max_steps < 1:
            raise SettingError(f"max_steps must be >= 1, got {max_steps}. The benchmark's is {limit}.")
        self._mirrored = mirrored
        self._simulator: Any = _build(str(libero_file(self._task, folder="bddl_files", suffix=".bddl")))
        self._cameras = ModelCameras(
            self._model,
            image_size=image_size,
            names=dict(zip(self._task.view_tags, _CAMERAS, strict=True)),
            hidden_groups=[_COLLISION_SHAPES],
        )
        self._states: np.ndarray | None = None
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
        """`libero_panda`."""
        return self._task.embodiment

    @property
    def view_tags(self) -> tuple[str, ...]:
        """The scene and the wrist."""
        return self._task.view_tags

    @property
    def max_steps(self) -> int:
        """Decisions after which an unsolved episode ends."""
        return self._max_steps

    @property
    def rate_hz(self) -> float:
        """Decisions per simulated second [Hz]."""
        return float(_HZ)

    @property
    def action_low(self) -> Action:
        """-1 everywhere."""
        return -np.ones(7)

    @property
    def action_high(self) -> Action:
        """1 everywhere."""
        return np.ones(7)

    @property
    def instruction(self) -> str:
        """What the robot is told; may be set after `reset`."""
        return self._instruction

    @instruction.setter
    def instruction(self, text: str) -> None:
        self._instruction = text

    def reset(self, seed: int) -> str:
        """Begin an episode; equal seeds give equal scenes. See the class for which seeds are the benchmark's.

        Args:
            seed: Number of the episode, in [0, 2**32).

        Returns:
            The instruction.

        Raises:
            SettingError: If the seed lies outside.
            SimulationError: If the environment is closed.
        """
        if self._simulator is None:
            raise SimulationError("reset must come before close, got a closed environment. Make a new one.")
        with _numpy_seed(check_seed(seed)):
            self._simulator.reset()
        gripper = self._simulator.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)  # robosuite keeps the last episode's
        index = libero_initial_state(seed)
        self._simulator.set_init_state(self._fresh_state(seed) if index is None else self._initial_states()[index])
        for _ in range(_SETTLING_STEPS):
            self._simulator.step(_REST)
        self._instruction = self._task.instruction(seed)
        self._decisions = 0
        self._begun = True
        self._done = self._success = False
        return self._instruction

    def look(self) -> Pictures:
        """Render both views now.

        Returns:
            View tag -> RGB in [0, 255].

        Raises:
            SimulationError: If rendering fails, a picture is constant, or no episode was begun.
        """
        if not self._begun:
            raise SimulationError("look must come after reset, got no episode. Call reset(seed) first.")
        pictures = self._cameras.render(self._data)
        if not self._mirrored:
            return pictures
        return {tag: np.ascontiguousarray(picture[:, ::-1]) for tag, picture in pictures.items()}

    def robot_state(self) -> State:
        """What the robot measures of itself: 8 numbers, as openpi gives them to a policy.

        Position of the point between the fingers [m], orientation of the hand as axis-angle [rad], both in the world,
        and the positions of the two fingers [m]. The hand points down, half a turn away from the world's axes, where
        axis-angle has a seam: the angle lies in [0, 2 pi] and follows the sign of the simulator's quaternion, as in
        the published data sets, so that it does not jump there.

        Returns:
            Native, in the order of the robot's `state_space`, a new array.

        Raises:
            SimulationError: If no episode was begun.
        """
        if not self._begun:
            raise SimulationError("robot_state must come after reset, got no episode. Call reset(seed) first.")
        robot = self._simulator.robots[0]
        position = self._data.site_xpos[robot.eef_site_id]
        w, *xyz = self._data.body(robot.robot_model.eef_name).xquat
        fingers = self._data.qpos[robot._ref_gripper_joint_pos_indexes]
        return np.concatenate([position, _axis_angle(w, np.array(xyz)), fingers])

    def step(self, action: Action) -> StepResult:
        """Carry out one displacement for 50 ms.

        Args:
            action: Seven entries, clipped to [-1, 1].

        Returns:
            Success so far, and whether the episode is over. A simulation that became unstable is over, unsolved.

        Raises:
            ShapeError: If the action does not have seven entries.
            SettingError: If an entry is NaN or infinite.
            SimulationError: If the episode is over or was never begun.
        """
        clipped = np.clip(check_action(action, size=7), -1.0, 1.0)
        if self._done:
            raise SimulationError("step must come in a running episode, got one that is over. Call reset(seed) first.")
        _, _, solved, _ = self._simulator.step(clipped)
        unstable = any(self._data.warning[kind].number for kind in _UNSTABLE)
        self._success = bool(solved) and not unstable
        self._decisions += 1
        self._done = self._success or unstable or self._decisions >= self._max_steps
        return StepResult(success=self._success, done=self._done)

    def close(self) -> None:
        """Free the renderer and the simulator, whose meshes are large; closing twice is fine."""
        self._cameras.close()
        if self._simulator is not None:
            self._simulator.close()
            self._simulator = None
            gc.collect()  # robosuite's objects point at each other
        self._done = True
        self._begun = False

    @property
    def _model(self) -> Any:  # noqa: ANN401  (mujoco.MjModel)
        return self._simulator.sim.model._model

    @property
    def _data(self) -> Any:  # noqa: ANN401  (mujoco.MjData)
        return self._simulator.sim.data._data

    def _fresh_state(self, seed: int) -> Float[np.ndarray, " state"]:
        """Objects as they were placed, and the arm as far from its rest as in the benchmark's initial states."""
        state: np.ndarray = self._simulator.get_sim_state()
        rng = np.random.default_rng([seed, _ARM_STREAM])
        arm = np.array(self._simulator.robots[0]._ref_joint_pos_indexes)
        state[1 + arm] += rng.normal(scale=_ARM_NOISE_RAD, size=7)
        return state

    def _initial_states(self) -> np.ndarray:
        if self._states is None:
            self._states = load_initial_states(libero_file(self._task, folder="init_files", suffix=".pruned_init"))
        return self._states


_UNSTABLE: Final = (
    mujoco.mjtWarning.mjWARN_BADQPOS,
    mujoco.mjtWarning.mjWARN_BADQVEL,
    mujoco.mjtWarning.mjWARN_BADQACC,
)


def libero_initial_state(seed: int) -> int | None:
    """Which of the benchmark's 50 initial states a seed begins with.

    Args:
        seed: Number of the episode.

    Returns:
        Its index; None where the objects are placed anew.

    Examples:
        ```python
        libero_initial_state(1_000_007)  # 7
        libero_initial_state(10_000)  # None
        ```
    """
    index = seed - EVALUATION_SEEDS_FROM
    return index if 0 <= index < _INITIAL_STATES else None


def _build(bddl_file: str) -> Any:  # noqa: ANN401  (LIBERO's ControlEnv)
    """LIBERO's environment without its renderer, whose pictures cost ten times ours and come at every step."""
    return ControlEnv(
        bddl_file_name=bddl_file,
        use_camera_obs=False,
        has_renderer=False,
        has_offscreen_renderer=False,
        control_freq=_HZ,
        ignore_done=True,
        hard_reset=False,
    )


@contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, from which robosuite places objects, and put it back afterwards."""
    before = np.random.get_state()  # noqa: NPY002  (robosuite knows no other)
    np.random.seed(seed)  # noqa: NPY002 (as above)
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002 (as above)


def _axis_angle(w: float, xyz: Float[np.ndarray, " 3"]) -> Float[np.ndarray, " 3"]:
    """Axis times angle in [0, 2 pi], of the very quaternion: its negative, the same rotation, gives another vector."""
    sine = float(np.linalg.norm(xyz))
    if sine < 1e-8:
        return np.zeros(3)
    turn: np.ndarray = xyz / sine * 2.0 * np.arccos(np.clip(w, -1.0, 1.0))
    return turn
