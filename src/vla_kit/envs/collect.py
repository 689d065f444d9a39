"""Record demonstrations: the expert's clean actions, under disturbed execution, in as many processes as wanted."""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Final

import numpy as np
from jaxtyping import Float, UInt8

from vla_kit.envs.disturbance import Disturbance
from vla_kit.envs.protocol import Expert, PolicyEnv, SimulationError, robot_state
from vla_kit.envs.registry import make_expert as registered_expert
from vla_kit.errors import SettingError

__all__ = ["RecordedEpisode", "collect", "collect_episode"]

_DISTURBANCE_STREAM: Final = 7002
"""Keeps the draw of the disturbance independent of the draw of the scene, which starts from the same seed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEpisode:
    """One demonstration: a picture and a clean action per decision.

    Args:
        task: Name in the registry.
        embodiment: Name of the robot.
        instruction: What the robot was told.
        seed: Seed of scene, instruction and disturbance.
        success: Whether the task was solved. Keep only such episodes.
        frames: View tag -> pictures, each taken before the decision of its step. Empty where nothing was rendered.
        actions: The expert's action at each decision, without the disturbance, in native units.
        states: What the robot measured of itself before each decision, native; None where its environment reports
            nothing.
    """

    task: str
    embodiment: str
    instruction: str
    seed: int
    success: bool
    frames: dict[str, UInt8[np.ndarray, "step height image_width 3"]]
    actions: Float[np.ndarray, "step size"]
    states: Float[np.ndarray, "step state_size"] | None = None


def collect_episode(
    env: PolicyEnv,
    expert: Expert,
    seed: int,
    *,
    disturbance: Disturbance | None = None,
    render: bool = True,
    start: Callable[[PolicyEnv, int], bool] | None = None,
) -> RecordedEpisode:
    """Record one episode.

    The same arguments give the same episode, whatever was recorded before.

    Args:
        env: Where to act.
        expert: Who acts there.
        seed: Number of the episode: scene, instruction and disturbance follow from it.
        disturbance: Noise on the executed actions; the recorded ones stay clean. None for clean execution.
        render: Whether to take pictures. Without them an episode tells only whether the expert succeeds.
        start: Acts before the expert does, given the environment and the seed; nothing of it is recorded. It tells
            whether the episode still goes on. `vla_kit.evaluation.PolicyStart` brings the expert where a policy errs.

    Returns:
        The episode, solved or not; without a step, and not solved, where `start` ended it.

    Raises:
        SettingError: If the disturbance has another number of channels than the robot.
        SimulationError: If a picture is constant.

    Examples:
        >>> from vla_kit.envs.registry import make_env, make_expert
        >>> env = make_env("metaworld/button-press-topdown")
        >>> episode = collect_episode(env, make_expert(env), 0, render=False)
        >>> env.close()
        >>> episode.success, episode.actions.shape[1]
        (True, 4)
    """
    size = env.action_low.size
    if disturbance is not None and len(disturbance.channels) != size:
        raise SettingError(
            f"disturbance must have {size} channels for {env.task}, got {len(disturbance.channels)}. "
            "Take that of find_task(env.task)."
        )
    instruction = env.reset(seed)
    going_on = start is None or start(env, seed)
    expert.reset()
    if disturbance is None:
        offsets = np.zeros((env.max_steps, size))
    else:
        offsets = disturbance.draw(env.max_steps, rng=np.random.default_rng([seed, _DISTURBANCE_STREAM]))
    pictures: dict[str, list[np.ndarray]] = {tag: [] for tag in env.view_tags}
    states: list[np.ndarray] = []
    actions, success = [], False
    for offset in offsets if going_on else ():
        if render:
            for tag, frame in env.look().items():
                pictures[tag].append(frame)
        state = robot_state(env)
        states += [] if state is None else [state]
        action = expert.act()
        actions.append(action)
        result = env.step(action + offset)
        success = result.success
        if result.done:
            break
    return RecordedEpisode(
        task=env.task,
        embodiment=env.embodiment,
        instruction=instruction,
        seed=seed,
        success=success,
        frames={tag: np.stack(frames) for tag, frames in pictures.items() if frames},
        actions=np.array(actions, dtype=np.float32).reshape(-1, size),
        states=np.array(states, dtype=np.float32) if states else None,
    )


def collect(
    make_env: Callable[[], PolicyEnv],
    seeds: Iterable[int],
    *,
    make_expert: Callable[[PolicyEnv], Expert] = registered_expert,
    disturbance: Disturbance | None = None,
    render: bool = True,
    start: Callable[[PolicyEnv, int], bool] | None = None,
    workers: int = 0,
) -> Iterator[RecordedEpisode]:
    """Record many episodes, in the order of their seeds.

    An episode depends on its seed alone, not on the number of workers. A worker is a fresh (spawned) process with one
    simulator and one rendering thread (`LP_NUM_THREADS=1`). Little more is recorded ahead than the caller takes, so
    stop taking as soon as there are enough. An error in a worker is raised here, and the workers end; so they do when
    the caller stops early or presses Ctrl-C. A script that asks for workers needs `if __name__ == "__main__":`.

    Args:
        make_env: Makes an environment; with workers it is pickled, so give `functools.partial(make_env, name)` and
            no lambda.
        seeds: Numbers of the episodes.
        make_expert: Makes the expert of an environment; pickled like `make_env`.
        disturbance: Noise on the executed actions, such as `find_task(name).disturbance`.
        render: Whether to take pictures.
        start: Acts before the expert does, see `collect_episode`; with workers it is pickled.
        workers: Processes; 0 records in this one. Software rendering gains about 1.2x from a second one on two
            cores.

    Yields:
        Each episode, solved or not: keep those with `success`.

    Raises:
        SettingError: If `workers` is negative.
        SimulationError: If a worker dies, or a picture is constant.

    Examples:
        >>> from functools import partial
        >>> from vla_kit.envs import find_task, make_env
        >>> name = "metaworld/button-press-topdown"
        >>> episodes = collect(
        ...     partial(make_env, name), range(2), disturbance=find_task(name).disturbance, render=False
        ... )
        >>> [episode.seed for episode in episodes if episode.success]
        [0, 1]
    """
    if workers < 0:
        raise SettingError(f"workers must be >= 0, got {workers}. 0 records in this process.")
    job = _Job(make_env=make_env, make_expert=make_expert, disturbance=disturbance, render=render, start=start)
    return _here(job, seeds) if workers == 0 else _in_processes(job, seeds, workers=workers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What every episode of one call has in common."""

    make_env: Callable[[], PolicyEnv]
    make_expert: Callable[[PolicyEnv], Expert]
    disturbance: Disturbance | None
    render: bool
    start: Callable[[PolicyEnv, int], bool] | None

    def record(self, env: PolicyEnv, expert: Expert, seed: int) -> RecordedEpisode:
        return collect_episode(env, expert, seed, disturbance=self.disturbance, render=self.render, start=self.start)


def _here(job: _Job, seeds: Iterable[int]) -> Iterator[RecordedEpisode]:
    env = job.make_env()
    try:
        expert = job.make_expert(env)
        for seed in seeds:
            yield job.record(env, expert, seed)
    finally:
        env.close()


def _in_processes(job: _Job, seeds: Iterable[int], *, workers: int) -> Iterator[RecordedEpisode]:
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"), initializer=_begin_worker)
    remaining = iter(seeds)
    try:
        waiting: deque[Future[RecordedEpisode]] = deque(
            pool.submit(_record, job, seed) for seed in islice(remaining, 2 * workers)
        )
        while waiting:
            episode = waiting.popleft().result()
            waiting.extend(pool.submit(_record, job, seed) for seed in islice(remaining, 1))
            yield episode
    except BrokenProcessPool as error:
        raise SimulationError(
            "workers must live until the last episode, got one that died without an error (out of memory, or a crash "
            "of the renderer). Record with workers=0 to see where."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[PolicyEnv, Expert] | None = None
"""The simulator of a worker process, made at its first episode, where an error still reaches the caller."""


def _begin_worker() -> None:
    os.environ["LP_NUM_THREADS"] = "1"  # llvmpipe reads it when the first context is made
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's, who then ends the workers


def _record(job: _Job, seed: int) -> RecordedEpisode:
    global _worker
    if _worker is None:
        env = job.make_env()
        _worker = (env, job.make_expert(env))
    env, expert = _worker
    return job.record(env, expert, seed)
