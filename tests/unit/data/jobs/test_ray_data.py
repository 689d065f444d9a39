"""Cleaning, statistics and conversion on a local Ray cluster of two workers, in a process of its own: Ray reads its
settings when it is imported."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from vla_kit.data.lerobot_writer import LeRobotWriter

pytest.importorskip("ray.data")
pytestmark = pytest.mark.slow

SCRIPT = """
import json
import logging
import os
import sys
import time
from functools import partial
from pathlib import Path

import ray

from vla_kit.data.cleaning.column_roles import find_roles
from vla_kit.data.cleaning.findings import find_faults
from vla_kit.data.cleaning.presets import default_rules
from vla_kit.data.conversion import write_lerobot
from vla_kit.data.jobs import Executor, SerialExecutor, episode_blocks
from vla_kit.data.jobs.ray_data import RayExecutor
from vla_kit.data.readers.open import open_source
from vla_kit.data.statistics import source_statistics

logging.getLogger("ray.data").setLevel("ERROR")


def meet(block, *, folder):
    # ends when two processes have come
    (folder / str(os.getpid())).touch()
    deadline = time.time() + 120
    while len(list(folder.iterdir())) < 2 and time.time() < deadline:
        time.sleep(0.05)
    return block


def broken(block):
    if 2 in block:
        raise ValueError("episode 2 is broken")
    return block


if __name__ == "__main__":
    root, folder = sys.argv[1], Path(sys.argv[2])
    answer = {}
    source = open_source(root)
    blocks = episode_blocks(source.lengths, 50)
    with RayExecutor(workers=2) as executor:
        assert isinstance(executor, Executor)
        answer["cores"] = ray.cluster_resources()["CPU"]
        answer["addresses"] = [node["NodeManagerAddress"] for node in ray.nodes()]
        answer["telemetry"] = os.environ.get("RAY_USAGE_STATS_ENABLED")
        (folder / "met").mkdir()
        answer["order"] = list(executor.map(partial(meet, folder=folder / "met"), blocks)) == blocks
        met = {int(path.name) for path in (folder / "met").iterdir()}
        answer["processes"] = len(met - {os.getpid()})
        roles = find_roles(source)
        here, there = (
            find_faults(source, default_rules(), roles=roles, executor=each, block_frames=50).decisions()
            for each in (SerialExecutor(), executor)
        )
        answer["cleaning"] = here == there
        answer["dropped"] = 4 in there.dropped
        ours, theirs = (source_statistics(source, executor=each)["action"].to_dict() for each in (None, executor))
        answer["statistics"] = ours == theirs
        for name, each in (("here", None), ("ray", executor)):
            write_lerobot(source, folder / name, block_frames=50, executor=each)
        files = [path.relative_to(folder / "here") for path in (folder / "here").rglob("*") if path.is_file()]
        pairs = [(folder / "here" / file, folder / "ray" / file) for file in files]
        answer["files"] = len(files)
        answer["conversion"] = all(one.read_bytes() == other.read_bytes() for one, other in pairs)
        try:
            list(executor.map(broken, blocks))
        except ValueError as error:
            answer["error"] = [str(error), *error.__notes__]
        answer["none"] = list(executor.map(broken, []))
    answer["ended"] = not ray.is_initialized()
    ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="error")
    with RayExecutor() as executor:
        answer["sums"] = list(executor.map(sum, [[1, 2], [3]]))
    answer["left alone"] = ray.is_initialized()
    ray.shutdown()
    (folder / "answer.json").write_text(json.dumps(answer))
"""


def test_the_same_jobs_on_a_cluster_of_two_workers(tmp_path):
    features = {
        "action": {"dtype": "float32", "shape": (3,)},
        "observation.images.top": {"dtype": "video", "shape": (32, 48, 3)},
    }
    rng = np.random.default_rng(0)
    with LeRobotWriter(tmp_path / "set", rate_hz=10, features=features) as writer:
        for index in range(6):
            pixels = rng.integers(0, 256, size=(25, 32, 48, 3), dtype=np.uint8)
            actions = rng.normal(size=(25, 3)).astype(np.float32) * (index != 4)  # the robot of episode 4 stands still
            writer.add_episode(actions, {"observation.images.top": pixels}, instruction=f"task {index % 2}")
    script = tmp_path / "jobs.py"
    script.write_text(SCRIPT)
    settings = {**os.environ, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "set"), str(tmp_path)],
        env=settings,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer == {
        "cores": 2.0,
        "addresses": ["127.0.0.1"],
        "telemetry": "0",
        "order": True,
        "processes": 2,
        "cleaning": True,
        "dropped": True,
        "statistics": True,
        "files": 10,
        "conversion": True,
        "error": ["episode 2 is broken", "in block 1 of 3: [2, 3]"],
        "none": [],
        "ended": True,
        "sums": [3, 3],
        "left alone": True,
    }
