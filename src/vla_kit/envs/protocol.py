"""What a policy, a recorder and an evaluation may know of a simulated robot.

A simulator is only ever named in the file of its adapter; everything else works on `PolicyEnv`.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from vla_kit.errors import SettingError, ShapeError, VLAKitError

__all__ = [
    "Expert",
    "PolicyEnv",
    "Proprioceptive",
    "SimulationError",
    "StepResult",
    "check_action",
    "check_frame",
    "check_seed",
    "robot_state",
]


Action = Float[np.ndarray, " size"]
"""One decision in native units. A name of its own, so that YAML can tell which classes satisfy `PolicyEnv`."""

State = Float[np.ndarray, " state_size"]
"""What a robot measures of itself, in native units."""

Pictures = dict[str, UInt8[np.ndarray, "height image_width 3"]]
"""View tag -> RGB in [0, 255]."""


class SimulationError(VLAKitError, RuntimeError):
    """A simulator cannot render, was used out of order, or lost a worker process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """What one decision led to.

    Args:
        success: Whether the task was solved at any simulator step so far.
        done: Whether the episode is over: solved, out of time, or the simulation became unstable.

    Examples:
        >>> StepResult(success=False, done=True)
        StepResult(success=False, done=True)
    """

    success: bool
    done: bool


@runtime_checkable
class PolicyEnv(Protocol):
    """A task as a policy sees it: pixels and an instruction in, one native action per decision out.

    Nothing here tells the state of the simulator: what a policy knows, it knows from `look` and `instruction`. What a
    robot measures of itself is for `Proprioceptive`.
    A picture is rendered only when somebody looks, so a policy that looks once per chunk pays for one picture per
    chunk. Equal seeds give equal scenes, first pictures and instructions.

    Examples:
        >>> def rollout(env: PolicyEnv, policy, seed: int) -> bool:
        ...     env.reset(seed)
        ...     result = StepResult(success=False, done=False)
        ...     while not result.done:
        ...         result = env.step(policy(env.look(), env.instruction))
        ...     return result.success
    """

    @property
    def task(self) -> str:
        """Name in the registry, such as `metaworld/faucet-open`."""
        ...

    @property
    def embodiment(self) -> str:
        """Name of the robot, a key of the prompter and of the normaliser."""
        ...

    @property
    def view_tags(self) -> tuple[str, ...]:
        """Keys of `look`, in the order in which the pictures enter the sequence."""
        ...

    @property
    def max_steps(self) -> int:
        """Decisions after which an unsolved episode ends."""
        ...

    @property
    def rate_hz(self) -> float:
        """Decisions per simulated second [Hz]."""
        ...

    @property
    def action_low(self) -> Action:
        """Lowest action, in native units; `step` clips to it."""
        ...

    @property
    def action_high(self) -> Action:
        """Highest action, in native units; `step` clips to it."""
        ...

    @property
    def instruction(self) -> str:
        """What the robot is told in this episode.

        `reset` draws it from the sentences of the task; it may be set afterwards, for a swapped-instruction trial.
        Success stays that of `task`, whatever is said.
        """
        ...

    @instruction.setter
    def instruction(self, text: str) -> None: ...

    def reset(self, seed: int) -> str:
        """Begin an episode and return its instruction."""
        ...

    def look(self) -> Pictures:
        """Render the views now: tag -> RGB in [0, 255]. The only way to get pixels."""
        ...

    def step(self, action: Action) -> StepResult:
        """Carry out one decision, clipped to [`action_low`, `action_high`]."""
        ...

    def close(self) -> None:
        """Free the renderer. The environment is of no use afterwards."""
        ...


@runtime_checkable
class Proprioceptive(Protocol):
    """An environment whose robot measures itself: joints, gripper, hand, and nothing of the scene."""

    def robot_state(self) -> State:
        """The measurements now, in the order of the robot's `state_space`."""
        ...


@runtime_checkable
class Expert(Protocol):
    """A demonstrator. It holds the simulator privately and may know the true state."""

    def reset(self) -> None:
        """Prepare for the episode that the environment has just begun."""
        ...

    def act(self) -> Action:
        """Action for the current decision, in native units and inside the limits of the environment."""
        ...


def robot_state(env: PolicyEnv) -> State | None:
    """What the robot of an environment measures of itself now.

    Args:
        env: In a running episode.

    Returns:
        Its state, native; None where the environment is not `Proprioceptive`.

    Raises:
        SimulationError: If no episode was begun.

    Examples:
        >>> from vla_kit.envs.registry import make_env
        >>> env = make_env("metaworld/reach")
        >>> _ = env.reset(0)
        >>> robot_state(env).shape
        (4,)
        >>> env.close()
    """
    return env.robot_state() if isinstance(env, Proprioceptive) else None


def check_seed(seed: int) -> int:
    """Return `seed` if every simulator takes it.

    Args:
        seed: Number of the episode, in [0, 2**32).

    Returns:
        The seed as a plain int.

    Raises:
        SettingError: If it lies outside.

    Examples:
        >>> check_seed(7)
        7
    """
    if not 0 <= seed < 2**32:
        raise SettingError(f"seed must lie in [0, 2**32), got {seed}. Number episodes from 0.")
    return int(seed)


def check_action(action: Action, *, size: int) -> Action:
    """Return `action` as float64 if a simulator can carry it out.

    Args:
        action: One decision, in native units.
        size: Channels that the robot has.

    Returns:
        A new float64 array, not yet clipped.

    Raises:
        ShapeError: If it is not one axis of `size` entries.
        SettingError: If an entry is NaN or infinite.

    Examples:
        >>> check_action(np.array([0, 1], dtype=np.float32), size=2)
        array([0., 1.])
    """
    values = np.array(action, dtype=np.float64)
    if values.shape != (size,):
        raise ShapeError(
            f"action must have the shape ({size},), got {values.shape}. Give one decision, cut to the native channels."
        )
    if not np.isfinite(values).all():
        raise SettingError(
            f"action must be finite, got {values.tolist()}. Look for NaN in the policy or in its statistics."
        )
    return values


def check_frame(
    frame: UInt8[np.ndarray, "height image_width 3"], *, tag: str
) -> UInt8[np.ndarray, "height image_width 3"]:
    """Return `frame` if it shows something.

    Software renderers that lost their context return constant pictures without an error; training on them is silent
    failure.

    Args:
        frame: RGB picture in [0, 255].
        tag: Name of the view, for the message.

    Returns:
        The frame itself.

    Raises:
        SimulationError: If the standard deviation of all values is below 1.

    Examples:
        >>> check_frame(np.arange(48, dtype=np.uint8).reshape(4, 4, 3), tag="cam_high").shape
        (4, 4, 3)
    """
    spread = float(frame.std())
    if spread < 1.0:
        raise SimulationError(
            f"frame of view {tag!r} must show a scene, got a constant picture (std {spread:.2f}, mean "
            f"{float(frame.mean()):.1f}). The renderer lost its context: use one process per simulator, and "
            "mujoco.Renderer rather than gymnasium's rendering."
        )
    return frame
