"""One of vla-eval's own benchmarks, unmodified and without Docker, against a saved policy on loopback."""

import json
import os
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

if find_spec("libero") is None or find_spec("vla_eval") is None:
    pytest.skip("pip install 'vla-kit[libero,vla-eval]' runs this test", allow_module_level=True)

from vla_kit.actions import QuantileNormalizer, QuantileStats
from vla_kit.backbones.tiny import tiny_qwen3_vl
from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.flow import Euler
from vla_kit.heads import DiTHead
from vla_kit.policy import Policy

PROTOCOL = Path(__file__).parents[2] / "examples" / "qwen_vla" / "benchmarks" / "vla_eval" / "libero.yaml"
STEPS, EPISODES = 24, 2


def save_policy(folder):
    torch.manual_seed(0)
    spec = preset("libero_panda")
    ones = torch.ones(spec.action_space.size)
    policy = Policy(
        tiny_qwen3_vl(corpus=["pick up the soup"], view_tags=["cam_high", "cam_left_wrist"], image_size=32, hidden=32),
        head=DiTHead(context_width=32, channels=8, width=16, depth=1, num_heads=2, mlp_hidden=16),
        prompter=EmbodimentPrompter([spec]),
        normalizer=QuantileNormalizer(
            {spec.name: QuantileStats(q01=-ones, q99=ones)}, spaces={spec.name: spec.action_space}
        ),
        solver=Euler(steps=2),
        channels=8,
    )
    policy.save(folder)


@pytest.mark.slow
def test_libero_runs_without_docker_and_the_policy_answers_every_chunk(tmp_path):
    save_policy(tmp_path / "policy")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = {
        "checkpoint": str(tmp_path / "policy"),
        "embodiment": "libero_panda",
        "views": {"cam_high": "agentview", "cam_left_wrist": "wrist"},
        "warm_up_size": 32,
    }
    (tmp_path / "server.yaml").write_text(yaml.safe_dump({"args": server}))
    serve = [sys.executable, "-m", "vla_kit.serving.vla_eval_server", "--config", "server.yaml"]
    serving = subprocess.Popen([*serve, "--host", "127.0.0.1", "--port", str(port)], cwd=tmp_path)
    try:
        while serving.poll() is None:  # until it listens; it does so when the policy has answered once
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.2)
        raw = yaml.safe_load(PROTOCOL.read_text(encoding="utf-8"))
        raw["benchmarks"] = [entry for entry in raw["benchmarks"] if entry["subname"] == "libero_object"]
        raw |= {"server": {"url": f"ws://127.0.0.1:{port}", "timeout": 300}, "output_dir": str(tmp_path / "out")}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw))
        command = [sys.executable, "-m", "vla_eval.cli.main", "run", "--no-docker", "--yes", "--config", "run.yaml"]
        for field in ("max_tasks=1", f"episodes_per_task={EPISODES}", f"max_steps={STEPS}"):
            command += ["--benchmark-field", field]
        done = subprocess.run(
            command, cwd=tmp_path, env=os.environ | {"MUJOCO_GL": "egl"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
    finally:
        serving.terminate()
        serving.wait()
    (result,) = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("*.json")]
    (task,) = result["tasks"]
    assert [episode["steps"] for episode in task["episodes"]] == [STEPS] * EPISODES
    assert all(episode.get("failure_reason") is None for episode in task["episodes"])
