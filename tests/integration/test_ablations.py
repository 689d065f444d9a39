"""The ablation script: what its variants change, how its second robot moves, what its table says."""

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from vla_kit.cli import VLACLI
from vla_kit.data.lerobot_writer import LeRobotWriter
from vla_kit.envs import StepResult

EXAMPLE = Path(__file__).parents[2] / "examples" / "qwen_vla"


@pytest.fixture
def ablations(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module("ablations")


def run_of(ablations, variant, folder, *, seed=0, episodes=10):
    return ablations.Run(variant=variant, seed=seed, output=folder, text_steps=1, steps=1, episodes=episodes)


class Arm:
    task = "metaworld/faucet-open"
    embodiment = "metaworld_sawyer"
    instruction = "turn the tap to the right"

    def __init__(self):
        self.done = []

    def step(self, action):
        self.done.append(action.tolist())
        return StepResult(success=True, done=True)


def test_the_turned_robot_moves_the_other_way_in_the_same_scene(ablations):
    arm = Arm()
    turned = ablations.TurnedSawyer(arm)
    assert turned.step(np.array([0.5, -0.25, 0.75, 1.0])).success
    assert arm.done == [[-0.5, 0.25, 0.75, 1.0]]
    assert (turned.embodiment, turned.task) == ("turned_sawyer", "metaworld/faucet-open")
    turned.instruction = "push it"
    assert arm.instruction == turned.instruction == "push it"


def test_demonstrations_of_the_turned_robot_are_what_it_would_have_done(ablations):
    episode = ablations.RecordedEpisode(
        task="metaworld/faucet-open",
        embodiment="metaworld_sawyer",
        instruction="turn the tap to the right",
        seed=0,
        success=True,
        frames={},
        actions=np.array([[0.5, -0.25, 0.75, 1.0]], dtype=np.float32),
        states=np.array([[0.125, 0.5, 0.25, 1.0]], dtype=np.float32),
    )
    turned = ablations.turn(episode)
    assert turned.actions.tolist() == [[-0.5, 0.25, 0.75, 1.0]]
    assert turned.states.tolist() == [[-0.125, -0.5, 0.25, 1.0]]
    assert turned.actions.dtype == turned.states.dtype == np.float32


def test_rates_and_differences_are_those_of_the_counts(ablations, tmp_path):
    successes = {variant.name: (3, 4) for variant in ablations.VARIANTS} | {ablations.NO_PROMPT.name: (0, 0)}
    runs = []
    for variant in ablations.VARIANTS:
        for seed, extra in ((0, 0), (1, 2)):
            run = run_of(ablations, variant, tmp_path, seed=seed)
            run.folder.mkdir(parents=True)
            first, second = successes[variant.name]
            found = [first + extra * (second > 0), second]
            run.result.write_text(json.dumps({"seconds": 60.0, "successes": found}))
            runs.append(run)
    table = ablations.summary(runs)
    rows = {row["variant"]: row for row in table["variants"]}
    assert (rows["joint attention"]["successes"], rows["joint attention"]["episodes"]) == (16, 40)
    assert rows["joint attention"]["per_seed"] == "35%, 45%"
    assert rows["joint attention"]["minutes"] == 1.0
    answers = {row["question"]: row for row in table["questions"]}
    assert answers["joint or cached attention"]["difference"] == 0.0
    assert answers["joint or cached attention"]["shows"] == "no"
    prompt = answers["embodiment prompt or instruction alone"]
    assert prompt["difference"] == pytest.approx(0.4)
    # Newcombe's interval from the Wilson intervals of 16 of 40 and 0 of 40, worked out by hand
    assert (prompt["low"], prompt["high"]) == pytest.approx((0.23778, 0.55404), abs=1e-5)
    assert prompt["shows"] == "yes"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["BASE", "JOINT", "PROMPT", "NO_PROMPT"])
def test_a_variant_trains_as_its_settings_say(name, ablations, tmp_path, monkeypatch):
    variant = getattr(ablations, name)
    run = run_of(ablations, variant, tmp_path, seed=7)
    rng = np.random.default_rng(0)
    camera = {"dtype": "image", "shape": (96, 96, 3)}
    for trial in variant.trials:
        folder = ablations.data_folder(trial, tmp_path)
        (key,) = ablations.features_of(trial.task).values()
        features = {"action": {"dtype": "float32", "shape": (4,)}, key: camera}
        with LeRobotWriter(folder, rate_hz=20, features=features) as writer:
            for _ in range(2):
                frames = {key: rng.integers(0, 256, (20, 96, 96, 3), dtype=np.uint8)}
                actions = rng.uniform(-1, 1, size=(20, 4)).astype(np.float32)
                writer.add_episode(actions, frames, instruction="turn the tap to the right")
    run.folder.mkdir(parents=True)
    settings = ablations.write_settings(run)
    files = [EXAMPLE / "configs" / f"{one}.yaml" for one in ("base", "stage3_sft", "time/near_noise", "size/tiny")]
    stacked = [argument for file in (*files, settings) for argument in ("--config", str(file))]
    small = ["--trainer.fast_dev_run=true", "--data.batch_size=4", "--warm_start.checkpoint=null"]
    monkeypatch.setattr("sys.argv", ["vla-kit"])
    command = VLACLI(["fit", *stacked, *small, f"--trainer.default_root_dir={tmp_path}"])
    assert command.config.fit.seed_everything == 7
    assert command.model.head.head.attention == variant.attention
    says = command.model.prompter("metaworld_sawyer", "open it")
    assert says.startswith("The robot is Sawyer") == (name != "NO_PROMPT")
    if variant.trials == ablations.ROBOTS:
        other = command.model.prompter("turned_sawyer", "open it")
        assert other.startswith("The robot is Turned Sawyer") == (name != "NO_PROMPT")
        assert (other == says) == (name == "NO_PROMPT")
