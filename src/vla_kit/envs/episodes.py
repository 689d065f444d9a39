"""Parts of an episode that an environment carries out without asking anybody: what a host is sent.

Light on purpose: a worker process imports these and nothing else of the library.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from vla_kit.envs.collect import collect_episode
from vla_kit.envs.navigation import NavigationTrace, navigation_trace
from vla_kit.envs.protocol import (
    Action,
    Expert,
    Pictures,
    PolicyEnv,
    SimulationError,
    State,
    check_seed,
    robot_state,
)
from vla_kit.envs.random_policy import random_actions

__all__ = [
    "ChunkOutcome",
    "RandomActor",
    "Scene",
    "Sight",
    "SoloOutcome",
    "act_alone",
    "begin_episode",
    "replay_episode",
    "run_chunk",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a policy is shown at one instant.

    Args:
        views: The pictures.
        state: What the robot measures of itself, native; None where it does not.
    """

    views: Pictures
    state: State | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """How an episode begins.

    Args:
        instruction: What the robot is told.
        sight: What it sees first.
    """

    instruction: str
    sight: Sight


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkOutcome:
    """What a chunk of actions led to.

    Args:
        steps: Actions that were carried out; fewer than given where the episode ended before.
        success: Whether the task is solved.
        done: Whether the episode is over.
        sight: What is seen after the last action; None where the episode is over and nobody asked for its end.
        passed: Pictures after each action but the last, where they were asked for.
        trace: Where the robot went, once the episode is over; None where the environment does not navigate.
    """

    steps: int
    success: bool
    done: bool
    sight: Sight | None
    passed: tuple[Pictures, ...] = ()
    trace: NavigationTrace | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SoloOutcome:
    """How an episode of an actor without pictures ended.

    Args:
        instruction: What the robot was told.
        success: Whether the task was solved.
        steps: Decisions taken.
        trace: Where the robot went; None where the environment does not navigate.
    """

    instruction: str
    success: bool
    steps: int
    trace: NavigationTrace | None = None


def begin_episode(env: PolicyEnv, seed: int, instruction: str | None = None) -> Scene:
    """Reset, and look once.

    Args:
        env: The environment.
        seed: Number of the episode.
        instruction: What to say in place of the task's own sentence.

    Returns:
        What a policy starts from.
    """
    env.reset(seed)
    if instruction is not None:
        env.instruction = instruction
    return Scene(instruction=env.instruction, sight=_look(env))


def run_chunk(
    env: PolicyEnv, actions: Float[np.ndarray, "step size"], watch: bool = False, see_timeout: bool = False
) -> ChunkOutcome:
    """Carry out actions until the last one or the end of the episode, and look once, after the last.

    Args:
        env: The environment, in an episode.
        actions: At least one native action.
        watch: Look after every action, for a policy that sees a history.
        see_timeout: Look too where the episode ended without success, for a critic that says what might have come.

    Returns:
        What they led to.
    """
    steps, success, done = 0, False, False
    passed: list[Pictures] = []
    for action in actions:
        step = env.step(action)
        steps, success, done = steps + 1, step.success, step.done
        if done:
            break
        if watch and steps < len(actions):
            passed.append(env.look())
    look = not done or (see_timeout and not success)
    return ChunkOutcome(
        steps=steps,
        success=success,
        done=done,
        sight=_look(env) if look else None,
        passed=tuple(passed),
        trace=navigation_trace(env) if done else None,
    )


def _look(env: PolicyEnv) -> Sight:
    return Sight(views=env.look(), state=robot_state(env))


def replay_episode(
    env: PolicyEnv, seed: int, actions: Float[np.ndarray, "step size"], success: bool
) -> UInt8[np.ndarray, "step height image_width 3"]:
    """Carry out the actions of an episode again and look at every step: pictures of an episode that was run blind.

    Args:
        env: The environment.
        seed: Number of the episode.
        actions: Every action that was carried out.
        success: How the episode ended.

    Returns:
        Views side by side, before each action and after the last.

    Raises:
        SimulationError: If the episode does not end as it did, because the environment draws more than from the seed.
    """
    env.reset(seed)
    pictures = [_beside(env.look())]
    for number, action in enumerate(actions, start=1):
        step = env.step(action)
        pictures.append(_beside(env.look()))
        if step.done != (number == len(actions)):
            break
    if step.success != success or len(pictures) != len(actions) + 1:
        raise SimulationError(
            f"an episode must be the same each time for a seed, got another end for seed {seed}. Let the environment "
            "draw from the seed of reset alone."
        )
    return np.stack(pictures)


def _beside(views: Pictures) -> UInt8[np.ndarray, "height image_width 3"]:
    """Views side by side; lower ones stand on black."""
    height = max(picture.shape[0] for picture in views.values())
    padded = [np.pad(picture, ((height - picture.shape[0], 0), (0, 0), (0, 0))) for picture in views.values()]
    return np.concatenate(padded, axis=1)


class RandomActor:
    """Acts uniformly at random; satisfies `Expert`.

    Args:
        env: Gives the limits.
        seed: Of the draws, in [0, 2**32).

    Raises:
        SettingError: If the seed lies outside.
    """

    def __init__(self, env: PolicyEnv, seed: int) -> None:
        self._limits = env.action_low, env.action_high
        self._seed = check_seed(seed)
        self.reset()

    def reset(self) -> None:
        """Begin the draws anew."""
        self._rng = np.random.default_rng(self._seed)

    def act(self) -> Action:
        """The next draw."""
        action: np.ndarray = random_actions(*self._limits, rng=self._rng)[0]
        return action


def act_alone(env: PolicyEnv, seed: int, make_actor: Callable[[PolicyEnv], Expert] | None) -> SoloOutcome:
    """Run a whole episode of an actor that needs no pictures.

    Args:
        env: The environment.
        seed: Number of the episode.
        make_actor: Makes the actor, such as `make_expert`; None acts at random, from the seed.

    Returns:
        How it ended.
    """
    actor: Expert = RandomActor(env, seed) if make_actor is None else make_actor(env)
    episode = collect_episode(env, actor, seed, render=False)
    return SoloOutcome(
        instruction=episode.instruction,
        success=episode.success,
        steps=len(episode.actions),
        trace=navigation_trace(env),
    )
