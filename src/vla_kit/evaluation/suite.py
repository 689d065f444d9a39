"""A policy on tasks of the registry, with the expert and random actions beside it."""

import time
from collections.abc import Sequence
from functools import partial

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla_kit.envs import find_task, make_env
from vla_kit.evaluation.rollout import ChunkPolicy, EpisodeResult, evaluate, evaluate_expert, evaluate_random
from vla_kit.evaluation.seeds import evaluation_seeds
from vla_kit.evaluation.table import EvaluationTable, SuccessCount, TaskRow

__all__ = ["evaluate_tasks"]


def evaluate_tasks(
    policy: ChunkPolicy,
    tasks: Sequence[str],
    *,
    episodes: int = 20,
    baseline_episodes: int = 20,
    replan_every: int = 8,
    num_envs: int = 10,
    image_size: int = 96,
    record: int = 1,
) -> tuple[EvaluationTable, list[EpisodeResult]]:
    """Evaluate a policy on tasks of the registry, and run expert and random actions on the same seeds.

    Where a task shares its scenes with another, the policy also runs with the sentences of the other.

    Args:
        policy: The policy.
        tasks: Names, such as `metaworld/faucet-open`.
        episodes: Episodes of the policy per task, and of the trials with swapped sentences.
        baseline_episodes: Episodes of the expert and of random actions per task; 0 leaves them out.
        replan_every: Actions used of each chunk.
        num_envs: Environments at a time.
        image_size: Height and width of the pictures, as in training [pixel].
        record: Keep the pictures of so many successes and failures per task.

    Returns:
        The table, with the time of each part, and every episode of the policy with the tasks' own sentences.

    Raises:
        SettingError: If a task is unknown or a number is out of range.
        MissingExtraError: If a simulator is not installed.
    """
    seeds, baseline_seeds = evaluation_seeds(episodes), range(0)
    if baseline_episodes:
        baseline_seeds = evaluation_seeds(baseline_episodes)
    partners = {name: find_task(name).shares_scene_with for name in tasks}
    total = sum(episodes * (2 if partners[name] else 1) + 2 * baseline_episodes for name in tasks)
    rows: list[TaskRow] = []
    kept: list[EpisodeResult] = []
    seconds = {"evaluation": 0.0, "baselines": 0.0}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        bar = progress.add_task("evaluate", total=total)
        for name in tasks:
            make = partial(make_env, name, image_size=image_size)
            progress.update(bar, description=name)
            run = partial(
                evaluate,
                policy,
                make,
                seeds,
                replan_every=replan_every,
                num_envs=num_envs,
                on_episode=lambda _: progress.advance(bar),
            )
            start = time.monotonic()
            own = run(record=record)
            kept += own
            partner = partners[name]
            swapped = run(instruction=find_task(partner).instruction) if partner is not None else None
            seconds["evaluation"] += time.monotonic() - start
            start = time.monotonic()
            expert = random = None
            if baseline_seeds:
                expert = evaluate_expert(make, baseline_seeds)
                progress.advance(bar, len(baseline_seeds))
                random = evaluate_random(make, baseline_seeds)
                progress.advance(bar, len(baseline_seeds))
            seconds["baselines"] += time.monotonic() - start
            rows.append(
                TaskRow(
                    name=name,
                    embodiment=find_task(name).embodiment,
                    policy=SuccessCount.of(own),
                    expert=None if expert is None else SuccessCount.of(expert),
                    random=None if random is None else SuccessCount.of(random),
                    swapped=None if swapped is None else SuccessCount.of(swapped),
                )
            )
    return EvaluationTable(tasks=rows, seconds=seconds), kept
