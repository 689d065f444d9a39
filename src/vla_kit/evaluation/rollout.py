"""Closed-loop episodes: environments that step in parallel behind one policy."""

import warnings
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, UInt8

from vla_kit.embodiment import History
from vla_kit.envs import EnvHere, EnvHost, Expert, NavigationTrace, PolicyEnv, SimulationError, make_expert
from vla_kit.envs.episodes import ChunkOutcome, Scene, SoloOutcome, act_alone, begin_episode, replay_episode, run_chunk
from vla_kit.envs.turns import take_turns
from vla_kit.errors import SettingError
from vla_kit.evaluation.seeds import check_evaluation_seeds
from vla_kit.metrics import NavigationEpisode
from vla_kit.policy import ChunkExecutor, FrameHistory, PolicyObservation

__all__ = ["ChunkPolicy", "EpisodeResult", "evaluate", "evaluate_expert", "evaluate_random"]


class ChunkPolicy(Protocol):
    """What an evaluation asks of a policy; `Policy` has it."""

    def act(
        self, observations: Sequence[PolicyObservation], *, generator: Sequence[torch.Generator]
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
        error: What went wrong with the environment, twice; then the episode counts neither as success nor as failure.
        pictures: Views of every decision side by side, where they were kept.
        navigation: How far the robot went and came, where it navigates.

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
    error: str | None = None
    pictures: UInt8[np.ndarray, "step height image_width 3"] | None = field(default=None, repr=False, compare=False)
    navigation: NavigationEpisode | None = None


def evaluate(
    policy: ChunkPolicy,
    make_env: Callable[[], PolicyEnv],
    seeds: Sequence[int],
    *,
    replan_every: int = 8,
    workers: Sequence[EnvHost] = (),
    instruction: Callable[[int], str] | None = None,
    history: History | None = None,
    record: int = 0,
    recorded: Sequence[EpisodeResult] = (),
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run a policy on one task, an episode per seed.

    The workers form two halves that take turns: while the policy answers one half in one batch, the environments of the
    other carry out their chunks. Who shares a batch depends on the episodes alone, not on how fast a worker is, so the
    same call gives the same results. Noise belongs to the episode's seed: beyond rounding, an episode does not depend
    on its neighbours.

    What a robot measures of itself goes into the observation, for policies that read states. Pictures are rendered only
    where the policy looks. Videos are made afterwards: the actions of an episode are carried
    out once more, with a picture at every step.

    A worker that raises, dies or does not answer in time is restarted and its episode begins again, once, with the same
    seed. If that fails too, the result has an `error`. What the environment refuses, such as an action with NaN, is
    raised, for it is not the environment's fault.

    Args:
        policy: Answers observations with chunks.
        make_env: Makes an environment of the task, such as `functools.partial(make_env, "metaworld/reach")`.
        seeds: Seeds that were not trained on, see `evaluation_seeds`.
        replan_every: Actions used of each chunk before the policy looks again.
        workers: Where the environments run, see `env_workers`; without any, one runs in this process.
        instruction: Seed -> what to say instead of the task's own sentence, for trials with swapped instructions.
        history: Earlier frames that the policy sees too, as in its training data. Every step is drawn then.
        record: Keep the pictures of the first so many successes and as many failures.
        recorded: Episodes of an evaluation that goes on; those with pictures count for `record`.
        on_episode: Called after each episode, in the order in which they end.

    Returns:
        Results in the order of `seeds`.

    Raises:
        SettingError: If seeds may have been trained on, or a number is out of range.
        SimulationError: If an environment cannot be made.

    Examples:
        >>> from vla_kit.envs import make_env
        >>> class Still:
        ...     def act(self, observations, *, generator):
        ...         return [np.zeros((16, 4)) for _ in observations]
        >>> results = evaluate(Still(), partial(make_env, "metaworld/reach"), [1_000_000], replan_every=16)
        >>> results[0].steps
        50

    Source:
        Qwen-VLA, arXiv 2605.30280, section 5: success over episodes. How many actions of a chunk are carried out is
        not published; half of 16 is our default.
    """
    checked = check_evaluation_seeds(seeds)
    if record < 0:
        raise SettingError(f"record must be at least 0, got {record}. Raise it.")
    ChunkExecutor(replan_every=replan_every)
    keep = _Keep(record, recorded)

    def play(host: EnvHost, seed: int) -> _Play:
        said = None if instruction is None else instruction(seed)
        return _policy_episode(host, seed, said, ChunkExecutor(replan_every=replan_every), keep, history)

    return _run(play, make_env, checked, workers=workers, policy=policy, on_episode=on_episode)


def evaluate_expert(
    make_env: Callable[[], PolicyEnv],
    seeds: Sequence[int],
    *,
    make_expert: Callable[[PolicyEnv], Expert] = make_expert,
    workers: Sequence[EnvHost] = (),
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run the task's demonstrator on the seeds of an evaluation, without pictures: the ceiling.

    Args:
        make_env: Makes an environment of the task.
        seeds: Seeds that were not trained on.
        make_expert: Makes the demonstrator of an environment.
        workers: As for `evaluate`; a worker has its time for a whole episode.
        on_episode: Called after each episode.

    Returns:
        Results in the order of `seeds`.

    Raises:
        SettingError: If seeds may have been trained on.
        SimulationError: If an environment cannot be made.
    """
    play = partial(_solo_episode, make_actor=make_expert)
    return _run(play, make_env, check_evaluation_seeds(seeds), workers=workers, on_episode=on_episode)


def evaluate_random(
    make_env: Callable[[], PolicyEnv],
    seeds: Sequence[int],
    *,
    workers: Sequence[EnvHost] = (),
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Run uniform random actions on the seeds of an evaluation, without pictures: the floor.

    Args:
        make_env: Makes an environment of the task.
        seeds: Seeds that were not trained on.
        workers: As for `evaluate`; a worker has its time for a whole episode.
        on_episode: Called after each episode.

    Returns:
        Results in the order of `seeds`.

    Raises:
        SettingError: If seeds may have been trained on.
        SimulationError: If an environment cannot be made.
    """
    play = partial(_solo_episode, make_actor=None)
    return _run(play, make_env, check_evaluation_seeds(seeds), workers=workers, on_episode=on_episode)


_Chunk = Float[np.ndarray, "step size"]
_Question = tuple[PolicyObservation, torch.Generator]
_Play = Generator[_Question | None, _Chunk | None, EpisodeResult]
"""An episode that stops where it waits: at None for its environment, at a question for the policy's chunk."""


def _policy_episode(
    host: EnvHost, seed: int, said: str | None, executor: ChunkExecutor, keep: "_Keep", history: History | None
) -> _Play:
    host.submit(begin_episode, seed, said)
    yield None
    scene: Scene = host.result()
    facts, sight, noise = host.facts, scene.sight, torch.Generator().manual_seed(seed)
    frames = None if history is None else FrameHistory(history, control_hz=facts.rate_hz)
    taken: list[_Chunk] = []
    steps = 0
    while True:
        if frames is not None:
            frames.add(sight.views)
        seen = PolicyObservation(
            embodiment=facts.embodiment,
            instruction=scene.instruction,
            views=sight.views if frames is None else frames.views(),
            state=sight.state,
            frame_rate_hz=None if history is None else history.rate_hz,
        )
        chunk = yield seen, noise
        assert chunk is not None  # noqa: S101 (the answer to a question)
        executor.give(chunk)
        actions = [executor.next()]
        while not executor.needs_chunk:
            actions.append(executor.next())
        host.submit(run_chunk, np.stack(actions), history is not None)
        yield None
        outcome: ChunkOutcome = host.result()
        taken.append(np.stack(actions)[: outcome.steps])
        steps += outcome.steps
        if outcome.sight is None:
            break
        if frames is not None:
            for views in outcome.passed:
                frames.add(views)
        sight = outcome.sight
    pictures = None
    if keep.wants(outcome.success):
        host.submit(replay_episode, seed, np.concatenate(taken), outcome.success)
        yield None
        try:
            pictures = host.result()
        except SimulationError as error:
            warnings.warn(f"no video of seed {seed}: {error}", stacklevel=2)
            host.restart()
    return EpisodeResult(
        task=facts.task,
        embodiment=facts.embodiment,
        seed=seed,
        instruction=scene.instruction,
        success=outcome.success,
        steps=steps,
        pictures=pictures,
        navigation=_measured(outcome.trace),
    )


def _solo_episode(host: EnvHost, seed: int, *, make_actor: Callable[[PolicyEnv], Expert] | None) -> _Play:
    host.submit(act_alone, seed, make_actor)
    yield None
    outcome: SoloOutcome = host.result()
    return EpisodeResult(
        task=host.facts.task,
        embodiment=host.facts.embodiment,
        seed=seed,
        instruction=outcome.instruction,
        success=outcome.success,
        steps=outcome.steps,
        navigation=_measured(outcome.trace),
    )


def _measured(trace: NavigationTrace | None) -> NavigationEpisode | None:
    if trace is None:
        return None
    return NavigationEpisode.of(
        trace.path,
        goal_distances=trace.goal_distances,
        shortest_m=trace.shortest_m,
        stopped=trace.stopped,
        success_m=trace.success_m,
        reference=trace.reference,
    )


def _run(
    play: Callable[[EnvHost, int], _Play],
    make_env: Callable[[], PolicyEnv],
    seeds: Sequence[int],
    *,
    workers: Sequence[EnvHost],
    policy: ChunkPolicy | None = None,
    on_episode: Callable[[EpisodeResult], None] | None = None,
) -> list[EpisodeResult]:
    """Let hosts play an episode per seed."""
    here = EnvHere()
    hosts = list(workers[: len(seeds)]) or [here]
    waiting, results = deque(seeds), dict[int, EpisodeResult]()

    def answer(questions: Sequence[_Question]) -> Sequence[_Chunk]:
        assert policy is not None  # noqa: S101 (an episode without one asks nothing)
        return policy.act([seen for seen, _ in questions], generator=[noise for _, noise in questions])

    def collect(result: EpisodeResult) -> None:
        results[result.seed] = result
        if on_episode is not None:
            on_episode(result)

    for host in hosts:
        host.give(make_env)
    take_turns(
        hosts,
        take=lambda _: waiting.popleft() if waiting else None,
        play=play,
        answer=answer,
        give_up=_given_up,
        on_result=collect,
    )
    here.close()
    return [results[seed] for seed in seeds]


def _given_up(host: EnvHost, seed: int, error: SimulationError) -> EpisodeResult:
    return EpisodeResult(
        task=host.facts.task,
        embodiment=host.facts.embodiment,
        seed=seed,
        instruction="",
        success=False,
        steps=0,
        error=str(error),
    )


class _Keep:
    """Decides whose pictures are kept: the first successes and the first failures."""

    def __init__(self, count: int, recorded: Sequence[EpisodeResult]) -> None:
        before = [result.success for result in recorded if result.pictures is not None]
        self._left = {success: count - before.count(success) for success in (True, False)}

    def wants(self, success: bool) -> bool:
        """Whether one more is wanted, and count it."""
        self._left[success] -= 1
        return self._left[success] >= 0
