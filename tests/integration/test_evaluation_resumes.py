"""An evaluation that is killed goes on where it was, through the command line: with a fake robot, and Meta-World."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from vla_kit.cli import VLACLI, main
from vla_kit.errors import SettingError

LAST = Path("checkpoints") / "last.ckpt"
TOYS = [Path(__file__).parents[1] / "unit" / name for name in ("envs", "evaluation")]

pytestmark = pytest.mark.slow

SCRIPT = textwrap.dedent("""
    import sys, time
    from corridor import Corridor, Sprinter, Walker
    from vla_kit.envs import env_workers
    from vla_kit.evaluation import EpisodeLog, EvaluationTask, evaluate_tasks

    class Slow(Walker):
        def act(self, observations, *, generator):
            time.sleep(0.05)
            return super().act(observations, generator=generator)

    task = EvaluationTask(name="toy/corridor", make_env=Corridor, make_expert=Sprinter)
    with env_workers(2) as workers:
        table, _ = evaluate_tasks(
            Slow(), [task], episodes=60, baseline_episodes=10, replan_every=2, workers=workers, record=2,
            log=EpisodeLog(sys.argv[1], {"policy": "walker"}),
        )
    table.write_json(sys.argv[1] + "/summary.json")
""")


def test_kill_9_at_any_moment(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, TOYS), *sys.path])}
    folders = {"whole": tmp_path / "whole", "killed": tmp_path / "killed"}
    subprocess.run([sys.executable, str(script), str(folders["whole"])], check=True, env=environment)
    lines = folders["killed"] / "episodes.jsonl"
    kills = 0
    for wanted in (5, 23, 61):
        process = subprocess.Popen([sys.executable, str(script), str(folders["killed"])], env=environment)
        deadline = time.monotonic() + 300
        while (not lines.exists() or lines.read_bytes().count(b"\n") < wanted) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        workers = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert len(workers) == 2
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        while any(Path(f"/proc/{worker}").exists() for worker in workers):  # they end by themselves
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert kills == 3
    subprocess.run([sys.executable, str(script), str(folders["killed"])], check=True, env=environment)
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders.values()]
    assert summaries[0]["tasks"] == summaries[1]["tasks"]
    found = {
        name: [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
        for name, folder in folders.items()
    }
    for episodes in found.values():  # none was lost and none was run twice
        keys = [(episode["trial"], episode["seed"]) for episode in episodes]
        assert len(keys) == len(set(keys)) == 80
        assert sum(episode["video"] is not None for episode in episodes) == 2
    ends = [{(e["trial"], e["seed"]): (e["success"], e["steps"]) for e in episodes} for episodes in found.values()]
    assert ends[0] == ends[1]


def test_the_command_goes_on_and_refuses_to_mix(stacked, tmp_path):
    if importlib.util.find_spec("metaworld") is None:  # importing it here would choose the renderer
        pytest.skip("metaworld is not installed")
    quick = ["--trainer.max_steps=1", "--trainer.limit_val_batches=0"]
    VLACLI([*stacked("fit", "stage3_sft.yaml"), *quick, f"--trainer.default_root_dir={tmp_path}"])
    command = ["evaluate", "--checkpoint", str(tmp_path / LAST), "--output", str(tmp_path / "out")]
    command += ["--tasks", "[metaworld/reach]", "--baseline_episodes=1", "--replan_every=16", "--workers=2"]
    main([*command, "--episodes=2"])
    lines = (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()
    main([*command, "--episodes=3", "--shifts", "[light, instruction]"])
    more = (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()
    assert more[: len(lines)] == lines
    assert len(lines) == 2 + 2
    assert len(more) == len(lines) + 1 + 2 * 3
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["tasks"][0]["episodes"] == 3
    assert set(summary["shifts"]) == {"light", "instruction"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<th>light</th><th>instruction</th>" in page
    with pytest.raises(SettingError, match=r"where temperature was 1\.0 and is 0\.5 now\. Choose another folder"):
        main([*command, "--episodes=3", "--temperature=0.5"])
