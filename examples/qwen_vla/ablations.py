"""The paper's ablations in miniature: what text-to-action, whole trajectories, the prompt and joint attention bring.

`python examples/qwen_vla/ablations.py --output outputs/ablations` records demonstrations, trains every variant from
several seeds, evaluates each on the same fresh scenes and writes `ablations.json`. Stop it at any time and start it
again: what is done is not done again.
"""

import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from demo import (
    Clock,
    DemoTask,
    features_of,
    fit,
    folder_of,
    git,
    last_checkpoint,
    machine,
    record,
)
from jsonargparse import auto_cli

from vla_kit.data.whole_file import write_atomically
from vla_kit.envs import EnvHere, PolicyEnv, StepResult, make_env, robot_state
from vla_kit.envs.collect import RecordedEpisode
from vla_kit.evaluation.rollout import evaluate
from vla_kit.evaluation.seeds import TRAINING_SEEDS_FROM, evaluation_seeds
from vla_kit.metrics import rate_difference, wilson_interval
from vla_kit.training.policy_checkpoint import load_policy

TURNED = "turned_sawyer"
TURN = np.array([-1.0, -1.0, 1.0, 1.0])  # half a turn of the base about the vertical; its own inverse
SECOND_SEEDS_FROM = TRAINING_SEEDS_FROM + 100_000


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What the policy is evaluated on.

    Args:
        task: Name in the registry of simulators.
        turned: Whether the arm is the second robot, whose base is turned.
    """

    task: str
    turned: bool = False


PAIR = (Trial(task="metaworld/faucet-open"), Trial(task="metaworld/faucet-close"))
ROBOTS = (Trial(task="metaworld/faucet-open"), Trial(task="metaworld/faucet-open", turned=True))


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One recipe of an ablation.

    Args:
        name: Name in the table.
        trials: What it learns and is evaluated on.
        text_stage: Configurations of the stage without pictures; none skips the stage.
        prompter: Class of the prompter.
        attention: Attention of the action head.
    """

    name: str
    trials: tuple[Trial, ...] = PAIR
    text_stage: tuple[str, ...] = ("stage1_t2a",)
    prompter: str = "vla_kit.embodiment.EmbodimentPrompter"
    attention: str = "cached"

    @property
    def folder(self) -> str:
        """Where its runs lie."""
        return self.name.replace(" ", "-").replace(",", "")


BASE = Variant(name="text to action, whole trajectories, cached")
NO_TEXT = Variant(name="no text to action", text_stage=())
CHUNKS = Variant(name="text to action, chunks", text_stage=("stage1_t2a", "stage1_t2a_chunks"))
JOINT = Variant(name="joint attention", attention="joint")
PROMPT = Variant(name="two robots, embodiment prompt", trials=ROBOTS)
NO_PROMPT = Variant(name="two robots, instruction alone", trials=ROBOTS, prompter="instruction_alone.InstructionAlone")
VARIANTS = (BASE, NO_TEXT, CHUNKS, JOINT, PROMPT, NO_PROMPT)
QUESTIONS = {
    "text to action or none": (BASE, NO_TEXT),
    "whole trajectories or chunks": (BASE, CHUNKS),
    "joint or cached attention": (JOINT, BASE),
    "embodiment prompt or instruction alone": (PROMPT, NO_PROMPT),
}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One variant from one seed, with what all runs share."""

    variant: Variant
    seed: int
    output: Path
    text_steps: int
    steps: int
    episodes: int

    @property
    def folder(self) -> Path:
        """Where its stages and its result lie."""
        return self.output / "runs" / self.variant.folder / f"seed_{self.seed}"

    @property
    def result(self) -> Path:
        """Seconds and successes per trial; there when the run is done."""
        return self.folder / "result.json"


def main(
    output: Path,
    seeds: int = 3,
    demonstrations: int = 250,
    text_steps: int = 100,
    steps: int = 600,
    episodes: int = 50,
    workers: int = 2,
    results: Path | None = None,
) -> None:
    """Record, train every variant from every seed, evaluate, compare.

    Args:
        output: Folder of everything that is made.
        seeds: Runs per variant.
        demonstrations: Episodes to record per task and robot.
        text_steps: Optimiser steps of text to action, in the variants that have it.
        steps: Optimiser steps with pictures, in all variants.
        episodes: Fresh episodes per task and run; the same scenes for all.
        workers: Runs at a time, each on one core.
        results: Where else to write the table.
    """
    output = output.resolve()
    os.environ |= {"OMP_NUM_THREADS": "1", "LP_NUM_THREADS": "1"}
    for trial in dict.fromkeys((*PAIR, *ROBOTS)):
        folder = data_folder(trial, output)
        if not folder.exists():
            task = DemoTask(name=trial.task, episodes=demonstrations)
            first, change = (SECOND_SEEDS_FROM, turn) if trial.turned else (TRAINING_SEEDS_FROM, None)
            record(task, folder, episodes=demonstrations, first_seed=first, change=change, workers=workers)
    runs = [
        Run(variant=variant, seed=seed, output=output, text_steps=text_steps, steps=steps, episodes=episodes)
        for seed in range(seeds)
        for variant in VARIANTS
    ]
    processes = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1,  # one renderer per process
    )
    with processes:
        for run, seconds in zip(runs, processes.map(train_and_evaluate, runs), strict=True):
            print(f"{run.variant.name}, seed {run.seed}: {seconds / 60:.1f} min", flush=True)
    table = json.dumps(summary(runs), indent=2) + "\n"
    for path in (output / "ablations.json", results):
        if path is not None:
            write_atomically(path, table)
    print(table)


def train_and_evaluate(run: Run) -> float:
    """Do what is left of a run; seconds that it took over all starts."""
    if run.result.exists():
        return float(json.loads(run.result.read_text())["seconds"])
    run.folder.mkdir(parents=True, exist_ok=True)
    clock = Clock(run.folder / "seconds.json")
    settings = write_settings(run)
    start = None
    if run.variant.text_stage:
        text = run.folder / "text"
        fit([*run.variant.text_stage, "time/near_noise"], settings, text, run.text_steps, clock, part="text to action")
        start = last_checkpoint(text)
    pictures = run.folder / "pictures"
    fit(["stage3_sft", "time/near_noise"], settings, pictures, run.steps, clock, part="pictures", warm_start=start)
    policy = load_policy(last_checkpoint(pictures), temperature=0.3)  # as the demo acts
    successes = []
    for trial in run.variant.trials:
        with clock.measure("evaluation"):
            found = evaluate(
                policy,
                partial(make_trial, trial),
                evaluation_seeds(run.episodes),
                replan_every=16,
                workers=[EnvHere() for _ in range(5)],
            )
        successes.append(sum(episode.success for episode in found))
    seconds = sum(clock.seconds.values())
    write_atomically(run.result, json.dumps({"seconds": seconds, "successes": successes}))
    return seconds


def write_settings(run: Run) -> Path:
    """Write what the variant changes of the stages' configurations: data, seed, prompter, attention."""
    sets = [
        {
            "root": str(data_folder(trial, run.output)),
            "embodiment": TURNED if trial.turned else "metaworld_sawyer",
            "views": features_of(trial.task),
            "cache_frames": True,
        }
        for trial in run.variant.trials
    ]
    ready = "vla_kit.embodiment.presets.preset"
    robots: list[dict[str, Any]] = [{"class_path": ready, "init_args": {"name": "metaworld_sawyer"}}]
    if any(trial.turned for trial in run.variant.trials):
        robots.append(turned_block())
    attention = {"init_args": {"attention": run.variant.attention}}
    settings = {
        "seed_everything": run.seed,
        "model": {
            "prompter": {"class_path": run.variant.prompter, "init_args": {"specs": robots}},
            "head": {"init_args": {"head": attention}},
        },
        "data": {"init_args": {"sets": sets, "seed": run.seed}},
    }
    path = run.folder / "settings.yaml"
    write_atomically(path, yaml.safe_dump(settings))
    return path


def turned_block() -> dict[str, Any]:
    """The second robot: the words and the rate of its own prompt, the channels of the first."""
    group = "vla_kit.actions.ChannelGroup"
    position = {"name": "position", "kind": "eef_position", "reference": "delta", "unit": "cm", "count": 3}
    gripper = {
        "name": "gripper",
        "kind": "gripper",
        "reference": "absolute",
        "unit": "-1 open, 1 closed",
        "normalized": False,
    }
    groups = [{"class_path": group, "init_args": one} for one in (position, gripper)]
    space = {"class_path": "vla_kit.actions.ActionSpace", "init_args": {"groups": groups}}
    spec = {
        "name": TURNED,
        "robot_tag": "Turned Sawyer",
        "rate_hz": 20.0,
        "chunk_size": 16,
        "arms": "single",
        "action_space": space,
    }
    return {"class_path": "vla_kit.embodiment.EmbodimentSpec", "init_args": spec}


def data_folder(trial: Trial, output: Path) -> Path:
    """Where the demonstrations of a trial lie."""
    return output / "data" / (folder_of(trial.task) + ("-turned" if trial.turned else ""))


def turn(episode: RecordedEpisode) -> RecordedEpisode:
    """The same episode as the turned arm has to write it down."""
    states = None if episode.states is None else (episode.states * TURN).astype(np.float32)  # seen from its own base
    return replace(episode, actions=(episode.actions * TURN).astype(np.float32), states=states)


def make_trial(trial: Trial) -> PolicyEnv:
    """The environment of a trial."""
    env = make_env(trial.task)
    return TurnedSawyer(env) if trial.turned else env


class TurnedSawyer:
    """The Sawyer arm with its base turned by half a turn about the vertical: x and y of its actions are flipped.

    Scenes and pictures are those of the arm as it is. A policy cannot see the difference, and what is right for one
    robot is wrong for the other.

    Args:
        env: The arm as it is.
    """

    embodiment = TURNED

    def __init__(self, env: PolicyEnv) -> None:
        self._env = env

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the arm has)
        return getattr(self._env, name)

    @property
    def instruction(self) -> str:
        """What the robot is told."""
        return self._env.instruction

    @instruction.setter
    def instruction(self, text: str) -> None:
        self._env.instruction = text

    def robot_state(self) -> np.ndarray:
        """Hand and gripper as the turned base measures them."""
        turned: np.ndarray = robot_state(self._env) * TURN
        return turned

    def step(self, action: np.ndarray) -> StepResult:
        """Carry out an action of the turned arm; the limits are symmetric."""
        return self._env.step(action * TURN)


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Rates of every variant over all its seeds, and the differences that answer the questions."""
    counts: dict[Variant, tuple[int, int]] = {}
    rows = []
    for variant in dict.fromkeys(run.variant for run in runs):
        found = [json.loads(run.result.read_text()) for run in runs if run.variant == variant]
        episodes = runs[0].episodes * len(variant.trials)
        per_seed = [sum(one["successes"]) for one in found]
        successes, trials = counts[variant] = sum(per_seed), episodes * len(found)
        low, high = wilson_interval(successes, trials)
        rows.append(
            {
                "variant": variant.name,
                "success": successes / trials,
                "low": low,
                "high": high,
                "successes": successes,
                "episodes": trials,
                "per_seed": ", ".join(f"{one / episodes:.0%}" for one in per_seed),
                "lowest": min(per_seed) / episodes,
                "highest": max(per_seed) / episodes,
                "minutes": sum(one["seconds"] for one in found) / len(found) / 60,
            }
        )
    answers = []
    for question, (first, second) in QUESTIONS.items():
        difference = rate_difference(*counts[first], *counts[second])
        answers.append(
            {
                "question": question,
                "difference": difference.difference,
                "low": difference.low,
                "high": difference.high,
                "shows": "yes" if difference.excludes_zero else "no",
            }
        )
    return {
        "variants": rows,
        "questions": answers,
        "seeds": len({run.seed for run in runs}),
        "text_steps": runs[0].text_steps,
        "steps": runs[0].steps,
        "command": "python examples/qwen_vla/ablations.py --output outputs/ablations",
        "commit": git("describe", "--always", "--dirty", "--exclude", "*") or "unknown",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "machine": machine(),
    }


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
