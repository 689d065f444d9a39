"""Episodes that a policy learns from: what it saw, what it drew, and what came of it."""

import time
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_kit.envs import EnvHost, PolicyEnv, SimulationError
from vla_kit.envs.episodes import ChunkOutcome, Scene, Sight, begin_episode, run_chunk
from vla_kit.envs.turns import take_turns
from vla_kit.policy import PolicyObservation
from vla_kit.training.drawn_chunk import DrawnChunk

__all__ = ["PlannedEpisode", "PlayedChunk", "PlayedEpisode", "RolloutSeconds", "play_episodes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedEpisode:
    """An episode to play.

    Args:
        number: Number among those of a plan, none twice.
        task: Name of its task.
        seed: Of scene and instruction.
    """

    number: int
    task: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlayedChunk:
    """One decision and how far it was carried out.

    Args:
        seen: What the policy was shown.
        decision: What it drew.
        steps: Actions of the chunk that were carried out.
    """

    seen: PolicyObservation
    decision: DrawnChunk
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PlayedEpisode:
    """An episode that was played.

    Args:
        planned: Its task and seed.
        success: Whether the task was solved.
        chunks: The decisions, in order.
        timeout: What was seen when time ran out; None after success, and where nobody looked.
        error: What went wrong with the environment, twice; then there is nothing to learn from.
    """

    planned: PlannedEpisode
    success: bool
    chunks: tuple[PlayedChunk, ...] = ()
    timeout: PolicyObservation | None = None
    error: str | None = None

    @property
    def steps(self) -> int:
        """Actions that were carried out."""
        return sum(chunk.steps for chunk in self.chunks)


@dataclass(slots=True, kw_only=True)
class RolloutSeconds:
    """Where the time of rollouts went.

    Args:
        simulation: Seconds in which the policy waited for environments [s].
        policy: Seconds in which it answered [s].
    """

    simulation: float = 0.0
    policy: float = 0.0


def play_episodes(
    plan: Sequence[PlannedEpisode],
    decide: Callable[[Sequence[PolicyObservation]], Sequence[DrawnChunk]],
    *,
    make_envs: Mapping[str, Callable[[], PolicyEnv]],
    hosts: Sequence[EnvHost],
    replan_every: int = 16,
    see_timeouts: bool = True,
) -> tuple[list[PlayedEpisode], RolloutSeconds]:
    """Play episodes of several tasks on hosts that step in parallel, with one policy for all.

    Each task has hosts in proportion to its episodes; who runs out of episodes helps another task. Pictures are
    rendered only where the policy looks. A host that raises, dies, hangs or shows something else than pictures and
    success is restarted, and its episode begins again, once; after a second failure the episode has an `error`.

    Args:
        plan: Episodes, at least one.
        decide: Answers observations, in one batch for all hosts of a half.
        make_envs: Task -> makes its environment; the same object each time, so that a host keeps what it has.
        hosts: Where the environments run, at least one.
        replan_every: Actions carried out of each chunk before the policy looks again.
        see_timeouts: Whether to look where time runs out, for a value head.

    Returns:
        The episodes in the order of `plan`, and the seconds that they took.

    Raises:
        SimulationError: If an environment cannot be made.
        VLAKitError: If an environment refuses an action.
    """
    queues: dict[str, deque[PlannedEpisode]] = {}
    for planned in plan:
        queues.setdefault(planned.task, deque()).append(planned)
    homes = _homes(queues, len(hosts))
    played: dict[int, PlayedEpisode] = {}
    seconds, start = RolloutSeconds(), time.perf_counter()

    def take(number: int) -> PlannedEpisode | None:
        queue = queues[homes[number]]
        if not queue:
            homes[number] = max(queues, key=lambda task: len(queues[task]))
            queue = queues[homes[number]]
        return queue.popleft() if queue else None

    def play(host: EnvHost, planned: PlannedEpisode) -> "_Play":
        return _play(host, planned, make_envs[planned.task], replan_every, see_timeouts)

    def answer(questions: Sequence[PolicyObservation]) -> Sequence[DrawnChunk]:
        begin = time.perf_counter()
        decisions = decide(questions)
        seconds.policy += time.perf_counter() - begin
        return decisions

    def collect(episode: PlayedEpisode) -> None:
        played[episode.planned.number] = episode

    take_turns(hosts, take=take, play=play, answer=answer, give_up=_given_up, on_result=collect)
    seconds.simulation = time.perf_counter() - start - seconds.policy
    return [played[planned.number] for planned in plan], seconds


def _homes(queues: Mapping[str, Sequence[PlannedEpisode]], hosts: int) -> list[str]:
    """Task that each host begins with: as many hosts per task as it has of the episodes."""
    total = sum(len(queue) for queue in queues.values())
    ends = np.cumsum([len(queue) for queue in queues.values()])
    names = list(queues)
    return [names[int(np.searchsorted(ends, (host + 0.5) / hosts * total, side="right"))] for host in range(hosts)]


_Play = Generator[PolicyObservation | None, DrawnChunk | None, PlayedEpisode]
"""An episode that stops where it waits: at None for its environment, at an observation for the policy's decision."""


def _play(
    host: EnvHost,
    planned: PlannedEpisode,
    make_env: Callable[[], PolicyEnv],
    replan_every: int,
    see_timeouts: bool,
) -> _Play:
    host.give(make_env)
    facts = host.facts
    host.submit(begin_episode, planned.seed)
    yield None
    scene: Scene = host.result()
    shape = _checked(scene.sight, facts.view_tags)

    def observation(sight: Sight) -> PolicyObservation:
        return PolicyObservation(
            embodiment=facts.embodiment, instruction=scene.instruction, views=sight.views, state=sight.state
        )

    seen = observation(scene.sight)
    chunks: list[PlayedChunk] = []
    while True:
        decision = yield seen
        assert decision is not None  # noqa: S101 (the answer to a question)
        host.submit(run_chunk, decision.actions[:replan_every], False, see_timeouts)
        yield None
        outcome: ChunkOutcome = host.result()
        if not isinstance(outcome.success, bool | np.bool_):
            raise SimulationError(
                f"success must be True or False, got {outcome.success!r}. Let the environment say whether it is solved."
            )
        chunks.append(PlayedChunk(seen=seen, decision=decision, steps=outcome.steps))
        if outcome.sight is not None:
            if _checked(outcome.sight, facts.view_tags) != shape:
                raise SimulationError("pictures must keep their shapes within an episode. Look at the renderer.")
            seen = observation(outcome.sight)
        if outcome.done:
            break
    return PlayedEpisode(
        planned=planned,
        success=bool(outcome.success),
        chunks=tuple(chunks),
        timeout=seen if see_timeouts and not outcome.success else None,
    )


def _checked(sight: Sight, tags: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Shapes of pictures that are what an environment promises."""
    shapes = {tag: np.shape(picture) for tag, picture in sight.views.items()}
    wrong = [tag for tag, shape in shapes.items() if len(shape) != 3 or shape[-1] != 3 or 0 in shape]
    wrong += [tag for tag, picture in sight.views.items() if getattr(picture, "dtype", None) != np.uint8]
    if set(shapes) != set(tags) or wrong:
        raise SimulationError(
            f"pictures must be uint8 of shape (height, width, 3) for the views {list(tags)}, got {shapes}. "
            "Look at the environment's look."
        )
    if sight.state is not None and not np.isfinite(sight.state).all():
        raise SimulationError(f"state must be finite, got {sight.state}. The simulation became unstable.")
    return shapes


def _given_up(host: EnvHost, planned: PlannedEpisode, error: SimulationError) -> PlayedEpisode:
    return PlayedEpisode(planned=planned, success=False, error=str(error))
