"""A policy on several tasks, with the expert and random actions beside it, and under changes of the scene."""

import time
from collections.abc import Callable, Sequence
from functools import partial

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla_kit.embodiment import History
from vla_kit.envs import EnvHost
from vla_kit.evaluation.episode_log import EpisodeLog
from vla_kit.evaluation.rollout import ChunkPolicy, EpisodeResult, evaluate, evaluate_expert, evaluate_random
from vla_kit.evaluation.seeds import evaluation_seeds
from vla_kit.evaluation.table import EvaluationTable, SuccessCount, TaskRow
from vla_kit.evaluation.task import EvaluationTask, registered_task
from vla_kit.metrics import mean_scores

__all__ = ["evaluate_tasks"]

_Run = Callable[..., list[EpisodeResult]]
_BASELINES = ("expert", "random")


def evaluate_tasks(
    policy: ChunkPolicy,
    tasks: Sequence[str | EvaluationTask],
    *,
    episodes: int = 20,
    baseline_episodes: int = 20,
    replan_every: int = 8,
    history: History | None = None,
    workers: Sequence[EnvHost] = (),
    record: int = 1,
    log: EpisodeLog | None = None,
) -> tuple[EvaluationTable, list[EpisodeResult]]:
    """Evaluate a policy on tasks, and run expert and random actions on the same seeds.

    Where a task shares its scenes with another, the policy also runs with the sentences of the other; where it has
    shifts, the policy also runs under each, on the same seeds.

    Args:
        policy: The policy.
        tasks: Names in the registry, such as `metaworld/faucet-open`, or tasks of your own.
        episodes: Episodes of the policy per task, and of its other trials.
        baseline_episodes: Episodes of the expert and of random actions per task; 0 leaves them out.
        replan_every: Actions used of each chunk.
        history: Earlier frames that the policy sees too, as in its training data.
        workers: Where the environments run, see `env_workers`; without any, one at a time runs in this process.
        record: Keep the pictures of so many successes and failures per task.
        log: Keeps every finished episode; those that it holds already are not run again.

    Returns:
        The table, with the time of each part, and every episode of the policy with the tasks' own sentences.

    Raises:
        SettingError: If a task is unknown or a number is out of range.
        MissingExtraError: If a simulator is not installed.
        SimulationError: If an environment cannot be made.
    """
    seeds, baseline_seeds = evaluation_seeds(episodes), range(0)
    if baseline_episodes:
        baseline_seeds = evaluation_seeds(baseline_episodes)
    known = [registered_task(task) if isinstance(task, str) else task for task in tasks]
    rows: list[TaskRow] = []
    kept: list[EpisodeResult] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as progress:
        clock = _Clock(log)
        trials = [_trials(policy, task, replan_every=replan_every, history=history) for task in known]
        counts = [len(baseline_seeds if name in _BASELINES else seeds) for runs in trials for name in runs]
        bar = progress.add_task("evaluate", total=sum(counts))
        for task, runs in zip(known, trials, strict=True):
            progress.update(bar, description=task.name)
            results: dict[str, list[EpisodeResult]] = {}
            for name, run in runs.items():
                wanted = baseline_seeds if name in _BASELINES else seeds
                if not wanted:
                    continue
                before = {} if log is None else log.finished(task.name, name)
                left = [seed for seed in wanted if seed not in before]
                progress.advance(bar, len(wanted) - len(left))

                def finish(result: EpisodeResult, trial: str = name) -> None:
                    clock.stop(trial, result)
                    progress.advance(bar)

                settings = {"record": record, "recorded": list(before.values())} if name == "policy" else {}
                clock.start()
                found = run(left, workers=workers, on_episode=finish, **settings) if left else []
                found_by_seed = before | {result.seed: result for result in found}
                results[name] = [found_by_seed[seed] for seed in wanted]
            kept += results["policy"]
            rows.append(_row(task, results))
    return EvaluationTable(tasks=rows, seconds=clock.seconds), kept


def _trials(
    policy: ChunkPolicy, task: EvaluationTask, *, replan_every: int, history: History | None
) -> dict[str, _Run]:
    """Name of a trial -> how to run it on some seeds."""
    run = partial(evaluate, policy, replan_every=replan_every, history=history)
    trials: dict[str, _Run] = {"policy": partial(run, task.make_env)}
    if task.swapped is not None:
        trials["swapped"] = partial(run, task.make_env, instruction=task.swapped)
    if task.make_expert is not None:
        trials["expert"] = partial(evaluate_expert, task.make_env, make_expert=task.make_expert)
    trials["random"] = partial(evaluate_random, task.make_env)
    for name, shift in task.shifts.items():
        trials[f"shift:{name}"] = partial(run, shift.make_env, instruction=shift.instruction)
    return trials


def _row(task: EvaluationTask, results: dict[str, list[EpisodeResult]]) -> TaskRow:
    counts = {name: SuccessCount.of(found) for name, found in results.items()}
    return TaskRow(
        name=task.name,
        embodiment=results["policy"][0].embodiment,
        policy=counts["policy"],
        expert=counts.get("expert"),
        random=counts.get("random"),
        swapped=counts.get("swapped"),
        shifts={name: counts[f"shift:{name}"] for name in task.shifts},
        navigation={name: scores for name, found in results.items() if (scores := _scores(found))},
    )


def _scores(results: Sequence[EpisodeResult]) -> dict[str, float]:
    """Scores of navigation over the episodes that have them; none where no episode has."""
    measured = [result.navigation for result in results if result.navigation is not None]
    return mean_scores(measured) if measured else {}


class _Clock:
    """Wall-clock time of each part, over all starts of an evaluation that keeps a log."""

    def __init__(self, log: EpisodeLog | None) -> None:
        self._log = log
        self._last = time.monotonic()
        self.seconds = {"evaluation": 0.0, "baselines": 0.0}
        if log is not None:
            baselines = sum(log.seconds(trial) for trial in _BASELINES)
            self.seconds = {"evaluation": log.seconds("") - baselines, "baselines": baselines}

    def start(self) -> None:
        """Begin a trial."""
        self._last = time.monotonic()

    def stop(self, trial: str, result: EpisodeResult) -> None:
        """An episode ended: add its time, and write it down."""
        now = time.monotonic()
        spent, self._last = now - self._last, now
        self.seconds["baselines" if trial in _BASELINES else "evaluation"] += spent
        if self._log is not None:
            self._log.append(result, trial=trial, seconds=spent)
