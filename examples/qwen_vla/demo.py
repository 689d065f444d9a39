"""From nothing to a policy that acts: record, train on text, train on pictures, evaluate, report.

`python demo.py --output outputs/demo` does everything that is not done yet; stop it at any time and start it again.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from jsonargparse import auto_cli
from PIL import Image
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.data.whole_file import write_atomically
from vla_kit.embodiment import History, preset
from vla_kit.envs import env_workers, find_task, make_env
from vla_kit.envs.collect import RecordedEpisode, collect
from vla_kit.evaluation.curves import read_curve
from vla_kit.evaluation.policy_start import PolicyStart
from vla_kit.evaluation.report import write_report
from vla_kit.evaluation.rollout import EpisodeResult
from vla_kit.evaluation.seeds import TRAINING_SEEDS_FROM
from vla_kit.evaluation.suite import evaluate_tasks
from vla_kit.evaluation.table import EvaluationTable
from vla_kit.metrics import rate_difference
from vla_kit.policy import Policy
from vla_kit.training.policy_checkpoint import load_policy

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # loads when something is drawn

HERE = Path(__file__).resolve().parent
STATE = "observation.state"  # recorded for files of configs/state; nothing reads it without them
CORRECTION_SEEDS_FROM = 500_000  # neither recorded from the start nor evaluated


@dataclass(frozen=True, kw_only=True)
class DemoTask:
    """A task of the demo.

    Args:
        name: Name in the registry of simulators.
        episodes: Demonstrations to record.
        weight: Share of the training mixture, relative to the other tasks.
        stride: Frames from one training sample to the next.
        corrections: Demonstrations to record from where the trained policy errs. The expert has to be able to go on
            from anywhere, as those of Meta-World are.
        correction_weight: Share of these in the last part of the training.
    """

    name: str
    episodes: int
    weight: float = 1.0
    stride: int = 1
    corrections: int = 0
    correction_weight: float = 1.0


def main(
    output: Path,
    command: str,
    tasks: list[DemoTask],
    t2a_steps: int,
    sft_steps: int,
    first_tasks: list[str] | None = None,
    first_steps: int = 0,
    last_steps: int = 0,
    evaluation_episodes: int = 50,
    baseline_episodes: int = 50,
    replan_every: int = 16,
    temperature: float = 0.3,
    workers: int = 2,
    beat_random: bool = False,
    configs: list[str] | None = None,
    history: History | None = None,
) -> None:
    """Record, train, evaluate and report; what is done already is not done again.

    Args:
        output: Folder of everything that the demo makes.
        command: How to run this demo, for the results.
        tasks: What to learn.
        t2a_steps: Optimiser steps of the stage without pictures.
        sft_steps: Optimiser steps of the stage with pictures.
        first_tasks: Names of tasks to begin with, alone, before all are mixed: clean data teach the backbone where
            things are; the gradient of noisy data would drown that.
        first_steps: Optimiser steps with these alone.
        last_steps: Optimiser steps with the corrections of the tasks beside all the rest.
        evaluation_episodes: Fresh episodes of the policy per task.
        baseline_episodes: Episodes of the expert and of random actions per task.
        replan_every: Actions carried out of each chunk before the policy looks again.
        temperature: Factor on the policy's noise.
        workers: Processes that record.
        beat_random: End with an error unless the policy beats random actions, with a 95 % interval without zero.
        configs: Files of `configs` for every stage, after all others, such as `data/navigation`.
        history: Earlier frames that the policy sees too, in training and evaluation.
    """
    if history is not None and any(task.corrections for task in tasks):
        raise SystemExit("corrections must be 0 with a history: what was seen before the expert took over is not kept.")
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    train = partial(fit, extra=configs or ())
    clock = Clock(output / "seconds.json")
    for task in tasks:
        if not (output / "data" / folder_of(task.name)).exists():
            with clock.measure("recording"):
                record(task, output / "data" / folder_of(task.name), episodes=task.episodes, workers=workers)
    data = write_data(output / "data.yaml", [data_set(task, output, history) for task in tasks])
    runs: dict[str, Path] = {}
    t2a = runs["Text to action"] = output / "runs" / "t2a"
    train(["stage1_t2a", "time/near_noise"], data, t2a, t2a_steps, clock, part="text to action")
    stage, start = ["stage3_sft", "time/near_noise"], t2a
    if first_tasks:
        start = runs["First pictures"] = output / "runs" / "first"
        first = write_data(
            output / "first.yaml", [data_set(task, output, history) for task in tasks if task.name in first_tasks]
        )
        train(stage, first, start, first_steps, clock, part="first pictures", warm_start=last_checkpoint(t2a))
    sft = runs["Pictures"] = output / "runs" / "sft"
    train(stage, data, sft, sft_steps, clock, part="pictures", warm_start=last_checkpoint(start))
    trained = sft
    if corrected := [task for task in tasks if task.corrections]:
        policy = load_policy(last_checkpoint(sft), temperature=temperature)
        takeover = PolicyStart(policy, chunks=(1, 2), replan_every=replan_every)
        corrections = [correction_set(task, output, history) for task in corrected]
        for task, block in zip(corrected, corrections, strict=True):
            folder = Path(block["root"])
            if not folder.exists():
                with clock.measure("recording corrections"):
                    record(task, folder, episodes=task.corrections, first_seed=CORRECTION_SEEDS_FROM, start=takeover)
        sets = [data_set(task, output, history) for task in tasks] + corrections
        trained = runs["Corrections"] = output / "runs" / "last"
        last = write_data(output / "last.yaml", sets)
        train(stage, last, trained, last_steps, clock, part="corrections", warm_start=last_checkpoint(sft))

    policy = load_policy(last_checkpoint(trained), temperature=temperature)
    save_policy(policy, output / "policy", trained=trained)
    report = output / "report.html"
    if report.exists() and not beat_random:  # a demand is checked at every start
        print(f"evaluated before: {report} (remove it to evaluate again)")
        return
    clock.forget("evaluation")  # one that was interrupted begins anew
    with clock.measure("evaluation"), env_workers(8) as simulators:
        table, episodes = evaluate_tasks(
            policy,
            [task.name for task in tasks],
            episodes=evaluation_episodes,
            baseline_episodes=baseline_episodes,
            replan_every=replan_every,
            history=history,
            workers=simulators,
        )
    table = EvaluationTable(tasks=table.tasks, seconds=clock.seconds)
    origin = provenance(command)
    write_results(table, output / "summary.json", origin=origin)
    write_picture(episodes, output / "demo.png")
    write_report(
        report,
        table,
        title="Qwen-VLA in miniature",
        notes=[
            "Trained from random weights on demonstrations recorded here; evaluated on seeds that were never recorded. "
            "The policy sees pictures of 96 x 96 pixels and the instruction, nothing else.",
            "Validation takes every fourth frame of held-out episodes, also where training takes every 16th (ALOHA).",
            "Made by {command} at commit {commit} on {date}; {machine}.".format(**origin),
        ],
        curves={
            f"{name}: loss over steps": {
                "training": smooth(read_curve(run, "train/loss")),
                "validation": read_curve(run, "val/loss"),
            }
            for name, run in runs.items()
        },
        episodes=episodes,
    )
    for row in table.tasks:
        told = "" if row.swapped is None else f", told the other sentence {row.swapped}"
        print(f"{row.name:32} policy {row.policy}, expert {row.expert}, random {row.random}{told}")
    print(f"policy: {output / 'policy'}")
    print(f"report: {report}")
    if beat_random:
        assert_better_than_random(table)


class Clock:
    """Wall-clock seconds of each part, over all starts of the demo."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def forget(self, part: str) -> None:
        """Drop the time of a part that begins anew."""
        self.seconds.pop(part, None)

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Time a `with` block and add it to `part`; an interrupted one counts too."""
        start = time.monotonic()
        try:
            yield
        finally:
            self.seconds[part] = self.seconds.get(part, 0.0) + time.monotonic() - start
            write_atomically(self._path, json.dumps(self.seconds))


def folder_of(task: str) -> str:
    """Folder name of a task's data."""
    return task.replace("/", "-")


def features_of(task: str) -> dict[str, str]:
    """View tag -> key of its pictures in the task's data."""
    return {tag: f"observation.images.{tag}" for tag in find_task(task).view_tags}


def save_policy(policy: Policy, folder: Path, *, trained: Path) -> None:
    """Leave the policy in a folder that needs nothing else; one of an earlier training is replaced."""
    if folder.exists() and folder.stat().st_mtime < last_checkpoint(trained).stat().st_mtime:
        shutil.rmtree(folder)
    if not folder.exists():
        policy.save(folder)


def record(
    task: DemoTask,
    folder: Path,
    *,
    episodes: int,
    first_seed: int = TRAINING_SEEDS_FROM,
    start: PolicyStart | None = None,
    change: Callable[[RecordedEpisode], RecordedEpisode] | None = None,
    workers: int = 0,
) -> None:
    """Record successful demonstrations of a task into a LeRobot v3.0 set, or leave nothing; `change` edits each."""
    known = find_task(task.name)
    spec = preset(known.embodiment)
    features = {
        "action": {"dtype": "float32", "shape": [spec.action_space.size], "names": list(spec.action_space.names)},
        **{
            key: {"dtype": "image", "shape": [96, 96, 3], "names": ["height", "width", "channels"]}
            for key in features_of(task.name).values()
        },
    }
    if spec.state_space is not None:
        names = list(spec.state_space.names)
        features[STATE] = {"dtype": "float32", "shape": [len(names)], "names": names}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Progress(*columns) as progress,
        LeRobotWriter(folder, rate_hz=spec.rate_hz, features=features, robot_type=spec.robot_tag) as writer,
    ):
        bar = progress.add_task(f"record {folder.name}", total=episodes)
        recorded = collect(
            partial(make_env, task.name), count(first_seed), disturbance=known.disturbance, start=start, workers=workers
        )
        kept = 0
        for episode in recorded:
            if episode.success:
                write_episode(writer, episode if change is None else change(episode))
                kept += 1
                progress.advance(bar)
            if kept == episodes:
                break


def write_episode(writer: LeRobotWriter, episode: RecordedEpisode) -> None:
    """Append one recorded episode."""
    frames = {features_of(episode.task)[tag]: pictures for tag, pictures in episode.frames.items()}
    columns = {} if episode.states is None else {STATE: episode.states}
    writer.add_episode(episode.actions, frames, instruction=episode.instruction, columns=columns, seed=episode.seed)


def write_data(path: Path, sets: Sequence[dict[str, Any]]) -> Path:
    """Write the configuration of a stage's data beside the data."""
    write_atomically(path, yaml.safe_dump({"data": {"init_args": {"sets": sets}}}))
    return path


def data_set(task: DemoTask, output: Path, history: History | None = None) -> dict[str, Any]:
    """The task's data as an entry of `data.sets`."""
    return {
        "root": str(output / "data" / folder_of(task.name)),
        "embodiment": find_task(task.name).embodiment,
        "state": [STATE],
        "views": features_of(task.name),
        "weight": task.weight,
        "stride": task.stride,
        "cache_frames": True,
        "history": None if history is None else asdict(history),
    }


def correction_set(task: DemoTask, output: Path, history: History | None = None) -> dict[str, Any]:
    """The task's corrections as an entry of `data.sets`; every frame counts, for their episodes are short."""
    data = data_set(task, output, history)
    return {**data, "root": f"{data['root']}-corrections", "weight": task.correction_weight, "stride": 1}


def last_checkpoint(run: Path) -> Path:
    """Where the command line keeps the newest weights of a run."""
    return run / "checkpoints" / "last.ckpt"


def fit(
    configs: Sequence[str],
    data: Path,
    run: Path,
    steps: int,
    clock: Clock,
    *,
    part: str,
    warm_start: Path | None = None,
    extra: Sequence[str] = (),
) -> None:
    """Run a stage through the command line, from its last checkpoint where there is one; `extra` files come last."""
    done = run / "done"
    if done.exists():
        return
    command = [sys.executable, str(HERE / "main.py"), "fit"]
    ours = [HERE / f"configs/{name}.yaml" for name in ("base", *configs, "size/tiny", *extra)]
    for config in (*ours, data):
        command += ["--config", str(config)]
    command += ["--trainer.default_root_dir", str(run), "--trainer.max_steps", str(steps)]
    command += ["--warm_start.checkpoint", "null" if warm_start is None else str(warm_start)]
    last = last_checkpoint(run)
    if last.exists():
        command += ["--ckpt_path", str(last)]
    print(f"--- {part}", flush=True)
    with clock.measure(part):
        subprocess.run(command, check=True)
    done.touch()


def provenance(command: str) -> dict[str, str]:
    """What someone needs to make the figures again."""
    return {
        "command": command,
        "commit": git("describe", "--always", "--dirty", "--exclude", "*") or "unknown",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": machine(),
    }


def write_results(table: EvaluationTable, path: Path, *, origin: dict[str, str]) -> None:
    """Write the figures with what someone needs to make them again."""
    robots = {name: count.rate for name, count in table.robots.items()}
    write_atomically(path, json.dumps(table.summary() | origin | {"robots": robots}, indent=2) + "\n")


def write_picture(episodes: Sequence[EpisodeResult], path: Path, *, columns: int = 6) -> None:
    """Write one row of pictures per task, from an episode that succeeded where there is one."""
    shown: dict[str, EpisodeResult] = {}
    for episode in sorted(episodes, key=lambda episode: not episode.success):
        if episode.pictures is not None:
            shown.setdefault(episode.task, episode)
    rows = []
    for episode in shown.values():
        pictures = episode.pictures[:, :, : episode.pictures.shape[1]]  # the first view
        rows.append(np.concatenate(pictures[np.linspace(0, len(pictures) - 1, columns).round().astype(int)], axis=1))
    partial_path = path.with_suffix(".partial.png")
    Image.fromarray(np.concatenate(rows)).save(partial_path)
    partial_path.replace(path)


def save_figure(figure: "Figure", path: Path) -> None:
    """Write a figure of matplotlib, whole or not at all."""
    partial_path = path.with_suffix(".partial.png")
    figure.savefig(partial_path, dpi=130)
    partial_path.replace(path)


def git(*arguments: str) -> str:
    """Output of a git command, empty outside a repository."""
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def machine() -> str:
    """The processor and how many of its cores this process may use."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [
        line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
    ]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores, no GPU"


def smooth(curve: Sequence[tuple[int, float]], *, points: int = 40) -> list[tuple[int, float]]:
    """At most about `points` means over neighbours, so that a curve of noisy batches can be read."""
    window = max(1, len(curve) // points)
    groups = [curve[start : start + window] for start in range(0, len(curve), window)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]


def assert_better_than_random(table: EvaluationTable) -> None:
    """Stop with an error unless all tasks together are solved more often than by random actions."""
    policy = [row.policy for row in table.tasks]
    random = [row.random for row in table.tasks if row.random is not None]
    difference = rate_difference(
        sum(row.successes for row in policy),
        sum(row.episodes for row in policy),
        sum(row.successes for row in random),
        sum(row.episodes for row in random),
    )
    print(f"better than random by {difference}")
    if not (difference.excludes_zero and difference.low > 0):
        raise SystemExit("The policy does not beat random actions: the 95 % interval of the difference includes zero.")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
