"""The script of stage 4: what it asks of the command line, what its table says, and that its plot is one."""

import importlib
import json
import subprocess
from pathlib import Path

import pytest
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "examples" / "qwen_vla"


@pytest.fixture
def rl(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module("rl")


def played(rl, folder):
    """Two runs that were played, with their logs."""
    runs = [rl.Run(seed=seed, output=folder, start=folder / "start.ckpt", rollouts=2) for seed in (0, 1)]
    names = [*rl.LAST, "time/seconds", *(f"rollout/success/{task}" for task in rl.PRACTISED)]
    for run in runs:
        logs = run.folder / "logs" / "version_0"
        logs.mkdir(parents=True)
        rows = ["step," + ",".join(names)]
        rows += [f"{step}," + ",".join(str(0.25 * step + run.seed) for _ in names) for step in (1, 2)]
        (logs / "metrics.csv").write_text("\n".join(rows) + "\n")
    return runs


def test_differences_are_those_of_the_counts(rl, tmp_path):
    tasks = (*rl.PRACTISED, *rl.HELD_OUT)
    successes = {("before", task): 80 for task in tasks}
    successes |= {(f"after-{seed}", task): 160 + 10 * seed for seed in (0, 1) for task in tasks}
    table = rl.summary(played(rl, tmp_path), successes, 200, rl.Clock(tmp_path / "seconds.json"))
    assert [(row["task"], row["seed"], row["before"], row["after"]) for row in table["practised"]] == [
        (task, seed, 0.4, (160 + 10 * seed) / 200) for task in rl.PRACTISED for seed in (0, 1)
    ]
    lows = [row["low"] for row in table["practised"]]
    assert table["difference_low"] == min(lows)
    assert 0.3 < table["difference_low"] < 0.4  # 80 of 200, then 160 of 200: 40 points, and less at the lower end
    assert len(table["held_out"]) == 4
    assert table["environment_steps"] == (0.5 + 1.5) / 2
    assert set(table["shares"]) == {"simulation", "policy", "learning"}


def test_the_plot_is_a_picture(rl, tmp_path):
    rl.draw(played(rl, tmp_path), tmp_path / "rl.png")
    with Image.open(tmp_path / "rl.png") as picture:
        assert picture.width > 800
    assert not list(tmp_path.glob("*.partial*"))


def test_a_run_asks_for_its_seed_and_goes_on(rl, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: asked.append(command))
    run = rl.Run(seed=2, output=tmp_path, start=tmp_path / "start.ckpt", rollouts=5)
    last = rl.last_checkpoint(run.folder)
    last.parent.mkdir(parents=True)
    rl.practise(run)
    (run.folder / "done").unlink()
    last.touch()
    rl.practise(run)
    rl.practise(run)  # done
    first, second = (" ".join(map(str, command)) for command in asked)
    for said in ("--model.seed 2", "--data.init_args.seed 2", "--trainer.max_epochs 5", "stage4_rl.yaml", "start.ckpt"):
        assert said in first
    assert "--ckpt_path" not in first
    assert f"--ckpt_path {last}" in second


def test_a_trial_that_is_done_is_not_done_again(rl, tmp_path):
    trial = rl.Trial(
        name="before", checkpoint=tmp_path / "no.ckpt", task="metaworld/reach", episodes=4, output=tmp_path
    )
    trial.result.parent.mkdir()
    trial.result.write_text(json.dumps({"successes": 3, "episodes": 4}))
    assert rl.try_out(trial) == 3


def test_no_scene_is_in_two_parts(rl):
    from vla_kit.evaluation.seeds import evaluation_seeds
    from vla_kit.training.rollouts import RolloutDataModule

    tried = set(evaluation_seeds(200, offset=rl.SKIPPED_SEEDS))
    tuned = set(evaluation_seeds(200, offset=5000))
    practised = set()
    for seed in range(3):
        data = RolloutDataModule(list(rl.PRACTISED), episodes=192, seed=seed)
        for data.played in range(20):
            practised |= {episode.seed for episode in data._plan()}
    assert len(practised) == 3 * 20 * 192
    assert not tried & tuned
    assert not practised & (tried | tuned | set(range(10_000, 20_000)))
