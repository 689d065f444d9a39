"""The last stage, measured: what reinforcement learning from success adds to a half-trained policy.

`python examples/qwen_vla/rl.py --output outputs/rl` records demonstrations, trains a policy that solves about half of
its tasks, improves it by reinforcement learning from several seeds, evaluates it on fresh scenes before and after, on
the tasks that it practised and on others, and writes `rl.json` and a plot. Stop it at any time and start it again: what
is done is not done again.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from demo import (
    Clock,
    DemoTask,
    data_set,
    fit,
    folder_of,
    git,
    last_checkpoint,
    machine,
    record,
    save_figure,
    write_data,
)
from jsonargparse import auto_cli

from vla_kit.data.whole_file import write_atomically
from vla_kit.envs import EnvHere, make_env
from vla_kit.evaluation.curves import read_curve
from vla_kit.evaluation.rollout import evaluate
from vla_kit.evaluation.seeds import evaluation_seeds
from vla_kit.metrics import rate_difference
from vla_kit.training.policy_checkpoint import load_policy

HERE = Path(__file__).resolve().parent
PRACTISED = ("metaworld/faucet-close", "metaworld/faucet-open")
HELD_OUT = ("metaworld/button-press-topdown", "metaworld/drawer-close")
DEMONSTRATIONS = (
    DemoTask(name="metaworld/faucet-open", episodes=250, weight=1.0),
    DemoTask(name="metaworld/faucet-close", episodes=250, weight=1.5),
    DemoTask(name="metaworld/drawer-close", episodes=150, weight=0.5),
    DemoTask(name="metaworld/button-press-topdown", episodes=150, weight=0.5),
)
SKIPPED_SEEDS = 10_000  # of evaluation, used while the settings were chosen
TEMPERATURE = 0.6  # the paper's in evaluation


@dataclass(frozen=True, kw_only=True)
class Run:
    """Reinforcement learning from one seed."""

    seed: int
    output: Path
    start: Path
    rollouts: int

    @property
    def folder(self) -> Path:
        """What its stage leaves."""
        return self.output / "runs" / f"rl_{self.seed}"


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One policy on one task."""

    name: str
    checkpoint: Path
    task: str
    episodes: int
    output: Path

    @property
    def result(self) -> Path:
        """Successes; there when the trial is done."""
        return self.output / "evaluations" / f"{self.name}-{folder_of(self.task)}.json"


def main(
    output: Path,
    seeds: int = 3,
    text_steps: int = 100,
    steps: int = 1000,
    rollouts: int = 20,
    episodes: int = 200,
    workers: int = 2,
    results: Path | None = None,
    image: Path | None = None,
) -> None:
    """Record, train with demonstrations, evaluate, practise, evaluate.

    Args:
        output: Folder of everything that is made.
        seeds: Runs of reinforcement learning.
        text_steps: Optimiser steps of text to action.
        steps: Optimiser steps with pictures; so few leave half of the tasks unsolved.
        rollouts: Rollouts of each run of reinforcement learning.
        episodes: Fresh episodes per task and policy; the same scenes before and after.
        workers: Runs and evaluations at a time, each on one core.
        results: Where else to write the table.
        image: Where else to write the plot.
    """
    output = output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    os.environ |= {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    clock = Clock(output / "seconds.json")
    for task in DEMONSTRATIONS:
        folder = output / "data" / folder_of(task.name)
        if not folder.exists():
            with clock.measure("recording"):
                record(task, folder, episodes=task.episodes, workers=workers)
    data = write_data(output / "data.yaml", [data_set(task, output) for task in DEMONSTRATIONS])
    text, pictures = output / "runs" / "text", output / "runs" / "pictures"
    fit(["stage1_t2a", "time/near_noise"], data, text, text_steps, clock, part="text to action")
    before = last_checkpoint(text)
    fit(["stage3_sft", "time/near_noise"], data, pictures, steps, clock, part="pictures", warm_start=before)
    start = last_checkpoint(pictures)
    runs = [Run(seed=seed, output=output, start=start, rollouts=rollouts) for seed in range(seeds)]
    at_a_time = partial(
        ProcessPoolExecutor,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1,  # one renderer per process
    )
    if not all((run.folder / "done").exists() for run in runs):
        with clock.measure("reinforcement"), at_a_time(min(seeds, workers)) as pool:
            list(pool.map(practise, runs))
    policies = {"before": start} | {f"after-{run.seed}": last_checkpoint(run.folder) for run in runs}
    trials = [
        Trial(name=name, checkpoint=checkpoint, task=task, episodes=episodes, output=output)
        for name, checkpoint in policies.items()
        for task in (*PRACTISED, *HELD_OUT)
    ]
    if not all(trial.result.exists() for trial in trials):
        with clock.measure("evaluation"), at_a_time(workers) as pool:
            list(pool.map(try_out, trials))
    successes = {(trial.name, trial.task): try_out(trial) for trial in trials}
    table = summary(runs, successes, episodes, clock)
    for path in (output / "rl.json", results):
        if path is not None:
            kept = json.loads(path.read_text()) if path.exists() else {}  # what benchmarks/rl.py measured
            write_atomically(path, json.dumps({**kept, **table}, indent=2) + "\n")
    for path in (output / "rl.png", image):
        if path is not None:
            draw(runs, path)
    print(json.dumps(table, indent=2))


def practise(run: Run) -> None:
    """Run stage 4 through the command line, from its last checkpoint where there is one."""
    done = run.folder / "done"
    if done.exists():
        return
    command = [sys.executable, str(HERE / "main.py"), "fit"]
    for name in ("base", "size/tiny", "stage4_rl", "size/tiny_rl"):
        command += ["--config", str(HERE / f"configs/{name}.yaml")]
    command += ["--trainer.default_root_dir", str(run.folder), "--trainer.enable_progress_bar", "false"]
    command += ["--warm_start.checkpoint", str(run.start), "--trainer.max_epochs", str(run.rollouts)]
    command += ["--data.init_args.tasks", json.dumps(PRACTISED)]
    command += ["--model.seed", str(run.seed), "--data.init_args.seed", str(run.seed)]
    last = last_checkpoint(run.folder)
    if last.exists():
        command += ["--ckpt_path", str(last)]
    subprocess.run(command, check=True)
    done.touch()


def try_out(trial: Trial) -> int:
    """Successes of a policy on a task."""
    if not trial.result.exists():
        found = evaluate(
            load_policy(trial.checkpoint, temperature=TEMPERATURE),
            partial(make_env, trial.task),
            evaluation_seeds(trial.episodes, offset=SKIPPED_SEEDS),
            replan_every=16,
            workers=[EnvHere() for _ in range(8)],
        )
        count = sum(episode.success for episode in found)
        trial.result.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(trial.result, json.dumps({"successes": count, "episodes": trial.episodes}))
    return int(json.loads(trial.result.read_text())["successes"])


def summary(runs: Sequence[Run], successes: dict[tuple[str, str], int], episodes: int, clock: Clock) -> dict[str, Any]:
    """Success before and after, per task and seed, and where the time went."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for kind, tasks in (("practised", PRACTISED), ("held_out", HELD_OUT)):
        for task in tasks:
            before = successes["before", task]
            for run in runs:
                after = successes[f"after-{run.seed}", task]
                change = rate_difference(after, episodes, before, episodes)
                row = {
                    "task": task,
                    "seed": run.seed,
                    "before": before / episodes,
                    "after": after / episodes,
                    "episodes": episodes,
                    "difference": change.difference,
                    "low": change.low,
                    "high": change.high,
                }
                rows.setdefault(kind, []).append(row)
    last = {key: [read_curve(run.folder, key)[-1][1] for run in runs] for key in LAST}
    return {
        **rows,
        "difference_low": min(row["low"] for row in rows["practised"]),
        "held_out_low": min(row["low"] for row in rows["held_out"]),
        "seeds": len(runs),
        "episodes": episodes,
        "rollouts": runs[0].rollouts,
        "rollout_episodes": sum(last["rollout/episodes"]) / len(runs),
        "environment_steps": sum(last["rollout/steps"]) / len(runs),
        "shares": {name.partition("/")[2]: sum(last[name]) / len(runs) for name in LAST if name in SHARES},
        "minutes": {name: seconds / 60 for name, seconds in clock.seconds.items()},
        "temperature": TEMPERATURE,
        "command": "python examples/qwen_vla/rl.py --output outputs/rl",
        "commit": git("describe", "--always", "--dirty", "--exclude", "*") or "unknown",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": machine(),
    }


SHARES = ("time/simulation", "time/policy", "time/learning")
LAST = (*SHARES, "rollout/episodes", "rollout/steps")


def draw(runs: Sequence[Run], path: Path) -> None:
    """Success of the rollouts of every run over environment steps and over minutes."""
    from matplotlib import colormaps  # loads when the work is done
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    colours = dict(zip(PRACTISED, colormaps["tab10"].colors, strict=False))  # type: ignore[attr-defined]  # of a listed map
    for axis, key, unit, label in (
        (axes[0], "rollout/steps", 1e3, "environment steps [1000]"),
        (axes[1], "time/seconds", 60.0, "minutes of the run"),
    ):
        for run in runs:
            spent = dict(read_curve(run.folder, key))
            for task, colour in colours.items():
                points = [
                    (spent[step] / unit, rate) for step, rate in read_curve(run.folder, f"rollout/success/{task}")
                ]
                axis.plot(
                    *zip(*points, strict=True),
                    color=colour,
                    alpha=0.8,
                    marker=".",
                    label=task.partition("/")[2] if run is runs[0] else None,
                )
        axis.set(xlabel=label, ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("success of rollouts, with exploration")
    axes[0].legend(loc="lower right", frameon=False)
    save_figure(figure, path)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
