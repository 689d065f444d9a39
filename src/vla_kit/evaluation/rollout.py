"""Closed-loop episodes: many environments in lock step behind one policy."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from jaxtyping import Float, UInt8
from torch import Generator

from vla_kit.envs import Expert, PolicyEnv, make_expert, random_actions, robot_state
from vla_kit.errors import SettingError
from vla_kit.evaluation.seeds import check_evaluation_seeds
from vla_kit.policy import ChunkExecutor, PolicyObservation

__all__ = ["ChunkPolicy", "EpisodeResult", "evaluate", "evaluate_expert", "evaluate_random"]


class ChunkPolicy(Protocol):
    """What an evaluation asks of a policy; `Policy` has it."""

    def act(
        self, observations: Sequence[PolicyObservation], *, generator: Sequence[Generator]
    ) -> list[Float[np.ndarray, "step size"]]:
        """Answer each observation with a chunk of native actions; one CPU generator per observation."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """How one episode ended.

    Args:
        task: Name in the registry.
        embodiment: Name of the robot.
        seed: Seed of scene, instruction and noise.
        instruction: What the robot was told.
        success: Whether the task was solved.
        steps: Decisions taken.
        pictures: Views of every decision side by side, where they were kept.

    Examples:
        >>> EpisodeResult(
        ...     task="metaworld/reach",
        ...     embodiment="metaworld_sawyer",
        ...     seed=1_000_000,
        ...     instruction="reach the red ball",
        ...     success=True,
        ...     steps=12,
        ... ).success
        True
    """

    task: str
    embodiment: str
    seed: int
    instruction: str
    success: bool
    steps: int
    pictures: UInt8[np.ndarray, "step height image_width 3"] | None = field(default=None, repr=False, compare=False)


def evaluate(
    policy: ChunkPolicy,
    make_env: Callable[[], PolicyEnv],
    seeds: Sequence[int],
    *,
    replan_every: int = 8,
    num_envs: int = 10,
    instruction: Callable[[int], str] | None = None,
    record: int = 0,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run a policy on one task, an episode per seed.

    Up to `num_envs` environments of this process run in lock step, and the policy answers all that need a chunk in one
    batch; a finished one takes the next seed. Pictures are rendered only where the policy looks, or for recording.
    What a robot measures of itself goes into the observation, for policies that read states.
    Noise belongs to the episode's seed: beyond rounding, an episode does not depend on its neighbours.

    Args:
        policy: Answers observations with chunks.
        make_env: Makes an environment of the task, such as `lambda: make_env("metaworld/reach")`.
        seeds: Seeds that were not trained on, see `evaluation_seeds`.
        replan_every: Actions used of each chunk before the policy looks again.
        num_envs: Environments at a time.
        instruction: Seed -> what to say instead of the task's own sentence, for trials with swapped instructions.
        record: Keep the pictures of the first so many successes and as many failures.
        on_episode: Called after each episode, in the order in which they end.

    Returns:
        Results in the order of `seeds`.

    Raises:
        SettingError: If seeds may have been trained on, or a number is out of range.

    Examples:
        >>> from vla_kit.envs import make_env
        >>> class Still:
        ...     def act(self, observations, *, generator):
        ...         return [np.zeros((16, 4)) for _ in observations]
        >>> results = evaluate(Still(), lambda: make_env("metaworld/reach"), [1_000_000], replan_every=16)
        >>> results[0].steps
        50

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5: success over episodes. How many actions of a chunk are carried out is
        not published; half of 16 is our default.
    """
    waiting = deque(check_evaluation_seeds(seeds))
    for name, value, least in (("num_envs", num_envs, 1), ("record", record, 0)):
        if value < least:
            raise SettingError(f"{name} must be at least {least}, got {value}. Raise it.")
    executors = [ChunkExecutor(replan_every=replan_every) for _ in range(min(num_envs, len(waiting)))]
    envs: list[PolicyEnv] = []
    keep = _Keep(record)
    results: dict[int, EpisodeResult] = {}
    try:
        running: list[_Episode] = []
        for executor in executors:
            envs.append(make_env())
            running.append(_begin(envs[-1], executor, waiting.popleft(), instruction, keep))
        while running:
            asking = [episode for episode in running if episode.executor.needs_chunk]
            if asking:
                chunks = policy.act(
                    [episode.observe() for episode in asking], generator=[episode.generator for episode in asking]
                )
                for episode, chunk in zip(asking, chunks, strict=True):
                    episode.executor.give(chunk)
            going_on = []
            for episode in running:
                result = episode.step()
                if result is None:
                    going_on.append(episode)
                    continue
                results[result.seed] = keep.choose(result)
                if on_episode is not None:
                    on_episode(results[result.seed])
                if waiting:
                    going_on.append(_begin(episode.env, episode.executor, waiting.popleft(), instruction, keep))
            running = going_on
    finally:
        for env in envs:
            env.close()
    return [results[int(seed)] for seed in seeds]


def evaluate_expert(
    make_env: Callable[[], PolicyEnv],
    seeds: Sequence[int],
    *,
    make_expert: Callable[[PolicyEnv], Expert] = make_expert,
) -> list[EpisodeResult]:
    """Run the task's demonstrator on the seeds of an evaluation, without pictures: the ceiling.

    Args:
        make_env: Makes an environment of the task.
        seeds: Seeds that were not trained on.
        make_expert: Makes the demonstrator of an environment.

    Returns:
        Results in the order of `seeds`.

    Raises:
        SettingError: If seeds may have been trained on.
    """
    env = make_env()
    try:
        expert = make_expert(env)
        return [_alone(env, seed, expert.reset, expert.act) for seed in check_evaluation_seeds(seeds)]
    finally:
        env.close()


def evaluate_random(make_env: Callable[[], PolicyEnv], seeds: Sequence[int]) -> list[EpisodeResult]:
    """Run uniform random actions on the seeds of an evaluation, without pictures: the floor.

    Args:
        make_env: Makes an environment of the task.
        seeds: Seeds that were not trained on.

    Returns:
        Results in the order of `seeds`.

    Raises:
        SettingError: If seeds may have been trained on.
    """
    env = make_env()
    try:
        return [
            _alone(env, seed, lambda: None, partial(_random_action, env, np.random.default_rng(seed)))
            for seed in check_evaluation_seeds(seeds)
        ]
    finally:
        env.close()


def _random_action(env: PolicyEnv, rng: np.random.Generator) -> Float[np.ndarray, " size"]:
    action: np.ndarray = random_actions(env.action_low, env.action_high, rng=rng)[0]
    return action


def _alone(
    env: PolicyEnv, seed: int, begin: Callable[[], None], act: Callable[[], Float[np.ndarray, " size"]]
) -> EpisodeResult:
    """One episode of an actor that needs no pictures."""
    said = env.reset(seed)
    begin()
    steps = 0
    while True:
        step = env.step(act())
        steps += 1
        if step.done:
            return EpisodeResult(
                task=env.task,
                embodiment=env.embodiment,
                seed=seed,
                instruction=said,
                success=step.success,
                steps=steps,
            )


@dataclass(slots=True)
class _Episode:
    """An episode that is going on in one of the environments."""

    env: PolicyEnv
    executor: ChunkExecutor
    seed: int
    generator: Generator
    recording: bool
    steps: int = 0
    pictures: list[np.ndarray] = field(default_factory=list)
    seen: dict[str, np.ndarray] | None = None

    def observe(self) -> PolicyObservation:
        return PolicyObservation(
            embodiment=self.env.embodiment,
            instruction=self.env.instruction,
            views=self._look(),
            state=robot_state(self.env),
        )

    def step(self) -> EpisodeResult | None:
        """Carry out the next action; the result when it was the last."""
        if self.recording:
            self.pictures.append(np.concatenate(list(self._look().values()), axis=1))
        step = self.env.step(self.executor.next())
        self.seen = None
        self.steps += 1
        if not step.done:
            return None
        if self.recording:
            self.pictures.append(np.concatenate(list(self._look().values()), axis=1))
        return EpisodeResult(
            task=self.env.task,
            embodiment=self.env.embodiment,
            seed=self.seed,
            instruction=self.env.instruction,
            success=step.success,
            steps=self.steps,
            pictures=np.stack(self.pictures) if self.recording else None,
        )

    def _look(self) -> dict[str, np.ndarray]:
        if self.seen is None:
            self.seen = self.env.look()
        return self.seen


class _Keep:
    """Decides whose pictures are kept: the first successes and the first failures."""

    def __init__(self, count: int) -> None:
        self._left = {True: count, False: count}

    @property
    def wanted(self) -> bool:
        return any(self._left.values())

    def choose(self, result: EpisodeResult) -> EpisodeResult:
        if result.pictures is None:
            return result
        if self._left[result.success]:
            self._left[result.success] -= 1
            return result
        return replace(result, pictures=None)


def _begin(
    env: PolicyEnv,
    executor: ChunkExecutor,
    seed: int,
    instruction: Callable[[int], str] | None,
    keep: _Keep,
) -> _Episode:
    env.reset(seed)
    if instruction is not None:
        env.instruction = instruction(seed)
    executor.reset()
    return _Episode(env, executor, seed, Generator().manual_seed(seed), recording=keep.wanted)
