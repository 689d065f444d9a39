"""What `vla-kit evaluate` does once the policy is loaded: run, keep every episode, write the table and the report."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import vla_kit
from vla_kit.data.fingerprint import fingerprint_files
from vla_kit.embodiment import History
from vla_kit.envs import EnvHost, EnvRecipe, EnvWorker, PolicyEnv, env_workers
from vla_kit.errors import SettingError
from vla_kit.evaluation.episode_log import EpisodeLog
from vla_kit.evaluation.report import write_report
from vla_kit.evaluation.rollout import ChunkPolicy
from vla_kit.evaluation.suite import evaluate_tasks
from vla_kit.evaluation.table import EvaluationTable
from vla_kit.evaluation.task import own_task, registered_task
from vla_kit.policy import ChunkExecutor

__all__ = ["evaluate_into", "fingerprint_policy"]


def fingerprint_policy(path: str | Path) -> str:
    """A digest of all that a checkpoint holds, be it a file or a folder.

    Args:
        path: The checkpoint.

    Returns:
        16 hexadecimal digits.

    Raises:
        SettingError: If there is nothing.
    """
    place = Path(path)
    if not place.exists():
        raise SettingError(f"checkpoint must exist, got {path}. Train one first, or check the path.")
    files = place.rglob("*") if place.is_dir() else [place]
    return fingerprint_files(place if place.is_dir() else place.parent, files, whole=lambda _: True)


def evaluate_into(
    output: str | Path,
    policy: ChunkPolicy,
    *,
    identity: Mapping[str, Any],
    notes: Sequence[str] = (),
    tasks: Sequence[str] = (),
    envs: Sequence[Callable[[], PolicyEnv]] = (),
    shifts: Sequence[str] = (),
    episodes: int = 20,
    baseline_episodes: int = 20,
    replan_every: int = 8,
    history: History | None = None,
    workers: int = 4,
    timeout_s: float = 60.0,
    image_size: int = 96,
    record: int = 1,
) -> EvaluationTable:
    """Evaluate a policy and leave everything in one folder: `episodes.jsonl`, `videos/`, `summary.json`, `report.html`.

    The same call goes on where an earlier one stopped, and may ask for more tasks, shifts or episodes.

    Args:
        output: The folder.
        policy: The policy.
        identity: What else decides how the policy acts, such as the fingerprint of its checkpoint, as JSON values.
        notes: Paragraphs of the report.
        tasks: Names in the registry.
        envs: Environments of your own.
        shifts: Changes to evaluate the tasks of the registry under, keys of `vla_kit.envs.SHIFTS`.
        episodes: Episodes of the policy per task and per shift.
        baseline_episodes: Episodes of the expert and of random actions per task; 0 leaves them out.
        replan_every: Actions used of each chunk.
        history: Earlier frames that the policy sees too, as in its training data.
        workers: Processes with one environment each; 0 runs one environment in this process.
        timeout_s: Longest time that a worker may take for one chunk, for a video or an episode of a baseline [s].
        image_size: Height and width of the pictures of tasks in the registry, as in training [pixel].
        record: Show so many successes and failures per task.

    Returns:
        The table.

    Raises:
        SettingError: If nothing is to be evaluated, an argument breaks its rule, or the folder holds episodes of
            another policy or other settings.
        SimulationError: If an environment cannot be made.
    """
    if not (tasks or envs):
        raise SettingError("tasks or envs must name something, got neither. Name a task such as metaworld/reach.")
    for name, value, least in (
        ("episodes", episodes, 1),
        ("baseline_episodes", baseline_episodes, 0),
        ("workers", workers, 0),
        ("image_size", image_size, 1),
        ("record", record, 0),
    ):
        if value < least:
            raise SettingError(f"{name} must be at least {least}, got {value}. Raise it.")
    ChunkExecutor(replan_every=replan_every)
    EnvWorker(timeout_s=timeout_s)
    known = [registered_task(task, image_size=image_size, shifts=shifts) for task in tasks]
    known += [own_task(make_env) for make_env in envs]
    log = EpisodeLog(
        output,
        {
            **identity,
            "replan_every": replan_every,
            "image_size": image_size,
            "envs": [_words(make_env) for make_env in envs],
            **({} if history is None else {"history": asdict(history)}),
            "vla_kit": vla_kit.__version__,
        },
    )
    with ExitStack() as stack:
        hosts: Sequence[EnvHost] = ()
        if workers:
            hosts = stack.enter_context(env_workers(workers, timeout_s=timeout_s))
        table, kept = evaluate_tasks(
            policy,
            known,
            episodes=episodes,
            baseline_episodes=baseline_episodes,
            replan_every=replan_every,
            history=history,
            workers=hosts,
            record=record,
            log=log,
        )
    table.write_json(Path(output) / "summary.json")
    write_report(Path(output) / "report.html", table, title="Evaluation", notes=notes, episodes=kept)
    return table


def _words(make_env: Callable[[], PolicyEnv]) -> str:
    """What an environment is made of, the same in every process."""
    if isinstance(make_env, partial):
        named = [f"{name}={value!r}" for name, value in sorted(make_env.keywords.items())]
        return f"{_words(make_env.func)}({', '.join([*map(repr, make_env.args), *named])})"
    if isinstance(make_env, EnvRecipe):
        return repr(make_env)
    return f"{make_env.__module__}.{make_env.__qualname__}"
