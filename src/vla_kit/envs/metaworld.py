"""Meta-World: a Sawyer arm over a table, one action being a displacement of the hand and a gripper command.

Needs `pip install 'vla-kit[metaworld]'`. See `mujoco_camera` for what rendering needs.
"""

import warnings
from typing import Any, Final

import numpy as np

from vla_kit.envs._mujoco import mujoco
from vla_kit.envs.metaworld_shifts import MetaWorldShift
from vla_kit.envs.mujoco_camera import FreeCamera
from vla_kit.envs.protocol import Action, Pictures, SimulationError, State, StepResult, check_action, check_seed
from vla_kit.envs.tasks import TASKS
from vla_kit.errors import MissingExtraError, SettingError

try:
    import metaworld.policies as shipped_policies
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS
except ModuleNotFoundError as error:
    raise MissingExtraError(error.name or "metaworld", extra="metaworld") from error

__all__ = ["MetaWorldEnv", "MetaWorldExpert"]

_SIMULATOR_HZ: Final = 80.0
_VIEW: Final = "cam_high"
_ROBOT_ENTRIES: Final = 4
"""Leading entries of the simulator's state: hand and gripper. Objects and the goal follow."""
_GOAL_VISIBLE: Final = frozenset({"reach", "push"})
"""Tasks whose goal is a marker and nothing else. Elsewhere the marker would give away what to do."""
_RESET_RANGE: Final = dict.fromkeys(("faucet-open", "faucet-close"), ((-0.1, 0.8, 0.0), (0.1, 0.85, 0.0)))
"""Where the object may stand [m], where that is not Meta-World's own range: one range for tasks that share a scene."""


def _names() -> list[str]:
    return sorted(name.removeprefix("metaworld/") for name in TASKS if name.startswith("metaworld/"))


class MetaWorldEnv:
    """One Meta-World task, decided at a fraction of the simulator's 80 Hz.

    An action has four entries in [-1, 1]: displacement of the hand along x, y and z (1 is 1 cm per simulator step),
    and the gripper (-1 opens, 1 closes). **Each decision is repeated for `frame_skip` simulator steps**, so that
    an action of 1 moves the target of the hand by `frame_skip` cm. x points to the robot's right, y away from it, z up.

    An episode is solved when Meta-World reports success at any simulator step. The camera looks from above the robot's
    right side. Markers of goals are hidden except in `reach` and `push`, where nothing else shows the goal.
    `faucet-open` and `faucet-close` have the same scenes (see `vla_kit.envs.tasks.PAIRS`): the handle, which points at
    the robot, turns to the robot's right and to its left. In the picture it ends right and left of the faucet too.

    Args:
        task: Name of the task, such as `faucet-open`.
        image_size: Height and width of a picture [pixels].
        frame_skip: Simulator steps per decision; 4 gives 20 Hz.
        max_steps: Decisions after which an unsolved episode ends.
        shift: Change of the scene, a key of `vla_kit.envs.SHIFTS`; none where None.

    Raises:
        SettingError: If the task or the shift is unknown or a number is not positive.

    Examples:
        >>> env = MetaWorldEnv("faucet-open")
        >>> env.reset(0)
        'push the handle of the faucet to the right'
        >>> env.step(np.zeros(4))
        StepResult(success=False, done=False)
        >>> env.close()

    Source:
        Meta-World+ (McLean et al. 2025, arXiv 2505.11289), v3 tasks. Not a benchmark of the Qwen-VLA paper.
    """

    def __init__(
        self, task: str, *, image_size: int = 96, frame_skip: int = 4, max_steps: int = 50, shift: str | None = None
    ) -> None:
        if f"metaworld/{task}" not in TASKS:
            raise SettingError(f"task must be one of {_names()}, got {task!r}. Add sentences for it to TASKS.")
        if frame_skip < 1:
            raise SettingError(f"frame_skip must be >= 1, got {frame_skip}. 4 decides at 20 Hz.")
        if not 1 <= max_steps * frame_skip <= 500:
            raise SettingError(
                f"max_steps must be >= 1 and at most {500 // frame_skip}, got {max_steps}. "
                "Meta-World ends an episode after 500 simulator steps."
            )
        self._task = TASKS[f"metaworld/{task}"]
        self._frame_skip = frame_skip
        self._max_steps = max_steps
        self._simulator: Any = _build(self._task.simulator_id, reset_range=_RESET_RANGE.get(task))
        self._camera = FreeCamera(
            self._simulator.model,
            image_size=image_size,
            lookat=(0.0, 0.68, 0.12),
            distance=1.2,
            azimuth=150.0,
            elevation=-35.0,
            show_sites=task in _GOAL_VISIBLE,
        )
        self._shift = None if shift is None else MetaWorldShift(shift, self._simulator, self._camera)
        self._state: Any = None
        self._instruction = ""
        self._decisions = 0
        self._done = True
        self._success = False

    @property
    def task(self) -> str:
        """Name in the registry."""
        return self._task.name

    @property
    def embodiment(self) -> str:
        """`metaworld_sawyer`."""
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
        return _SIMULATOR_HZ / self._frame_skip

    @property
    def action_low(self) -> Action:
        """-1 everywhere."""
        return -np.ones(4)

    @property
    def action_high(self) -> Action:
        """1 everywhere."""
        return np.ones(4)

    @property
    def instruction(self) -> str:
        """What the robot is told; may be set after `reset`."""
        return self._instruction

    @instruction.setter
    def instruction(self, text: str) -> None:
        self._instruction = text

    def reset(self, seed: int) -> str:
        """Begin an episode; equal seeds give equal scenes.

        Args:
            seed: Number of the episode, in [0, 2**32).

        Returns:
            The instruction.

        Raises:
            SettingError: If the seed lies outside.
        """
        simulator = self._simulator
        simulator.seed(check_seed(seed))
        if self._shift is not None:
            self._shift.before_reset(seed)
        simulator.reset()
        # Some tasks move the object after the last forward pass: without one, the first picture and state are stale.
        mujoco.mj_forward(simulator.model, simulator.data)
        for site, position in simulator._target_site_config:
            simulator._set_pos_site(site, position)
        simulator._prev_obs = simulator._get_curr_obs_combined_no_goal()
        self._state = simulator._get_obs()
        if self._shift is not None:
            self._shift.after_reset(seed)
        self._instruction = self._task.instruction(seed)
        self._decisions = 0
        self._done = self._success = False
        return self._instruction

    def look(self) -> Pictures:
        """Render the scene now.

        Returns:
            View tag -> RGB in [0, 255].

        Raises:
            SimulationError: If rendering fails, the picture is constant, or no episode was begun.
        """
        if self._state is None:
            raise SimulationError("look must come after reset, got no episode. Call reset(seed) first.")
        return {_VIEW: self._camera.render(self._simulator.data, tag=_VIEW)}

    def robot_state(self) -> State:
        """What the robot measures of itself now; nothing of objects or goals.

        Returns:
            Four entries: position of the hand along x, y and z [m], and how far the gripper is open (0 closed, 1 open).

        Raises:
            SimulationError: If no episode was begun.
        """
        if self._state is None:
            raise SimulationError("robot_state must come after reset, got no episode. Call reset(seed) first.")
        measured: np.ndarray = self._state[:_ROBOT_ENTRIES].copy()
        return measured

    def step(self, action: Action) -> StepResult:
        """Repeat one displacement for `frame_skip` simulator steps, or until the task is solved.

        Args:
            action: Four entries, clipped to [-1, 1].

        Returns:
            Success so far, and whether the episode is over.

        Raises:
            ShapeError: If the action does not have four entries.
            SettingError: If an entry is NaN or infinite.
            SimulationError: If the episode is over or was never begun.
        """
        clipped = np.clip(check_action(action, size=4), -1.0, 1.0)
        if self._done:
            raise SimulationError("step must come in a running episode, got one that is over. Call reset(seed) first.")
        for _ in range(self._frame_skip):
            self._state, _, _, _, info = self._simulator.step(clipped)
            if info["success"]:
                self._success = True
                break
        self._decisions += 1
        self._done = self._success or self._decisions >= self._max_steps
        return StepResult(success=self._success, done=self._done)

    def close(self) -> None:
        """Free the renderer."""
        self._camera.close()
        self._done = True


class MetaWorldExpert:
    """The scripted policy that Meta-World ships for a task. It reads the true state.

    Args:
        env: The environment to act in.

    Examples:
        >>> env = MetaWorldEnv("button-press-topdown")
        >>> expert = MetaWorldExpert(env)
        >>> _ = env.reset(0)
        >>> expert.reset()
        >>> expert.act().shape
        (4,)
        >>> env.close()
    """

    def __init__(self, env: MetaWorldEnv) -> None:
        self._env = env
        words = env._task.simulator_id.split("-")
        self._name = "Sawyer" + "".join(word.capitalize() for word in words) + "Policy"
        self._policy: Any = getattr(shipped_policies, self._name)()

    def reset(self) -> None:
        """Forget the last episode."""
        self._policy = getattr(shipped_policies, self._name)()

    def act(self) -> Action:
        """Action for the current decision, clipped to [-1, 1].

        Raises:
            SimulationError: If no episode was begun.
        """
        if self._env._state is None:
            raise SimulationError("act must come after reset of the environment, got no episode. Call reset(seed).")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Constant\\(s\\) may be too high", category=UserWarning)
            action = self._policy.get_action(self._env._state)
        return np.clip(np.asarray(action, dtype=np.float64), -1.0, 1.0)


def _build(simulator_id: str, *, reset_range: tuple[tuple[float, ...], tuple[float, ...]] | None) -> Any:  # noqa: ANN401
    """Make the simulator with a fresh scene at every reset and, for the expert, the goal in its state."""
    simulator = ALL_V3_ENVIRONMENTS[simulator_id]()
    simulator._partially_observable = False
    simulator.__dict__.pop("sawyer_observation_space", None)  # cached with the goal clipped to 0
    simulator._freeze_rand_vec = False
    simulator._set_task_called = True
    simulator.seeded_rand_vec = True
    if reset_range is not None:
        space = simulator._random_reset_space
        low, high = reset_range
        simulator._random_reset_space = type(space)(np.array(low), np.array(high), dtype=np.float64)
    return simulator
