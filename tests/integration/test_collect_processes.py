"""Recording in spawned processes: with a fake robot quickly, with Meta-World and Ctrl-C in the slow run."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from vla_kit.envs import TASKS, SimulationError, collect, make_env

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "envs"))  # spawned workers inherit the path

from fake_env import LineEnv, LineExpert


def test_workers_give_the_episodes_of_one_process_in_order():
    shake = TASKS["metaworld/reach"].disturbance
    shake = type(shake)(sigmas=shake.sigmas, channels=(True, False), kick_chance=0.3, kick_sigma=0.5)
    here = list(collect(LineEnv, range(7), make_expert=LineExpert, disturbance=shake))
    there = list(collect(LineEnv, range(7), make_expert=LineExpert, disturbance=shake, workers=2))
    assert [episode.seed for episode in there] == list(range(7))
    for one, other in zip(here, there, strict=True):
        assert (one.instruction, one.success) == (other.instruction, other.success)
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.frames["cam_high"], other.frames["cam_high"])


def test_an_error_in_a_worker_reaches_the_caller_and_ends_the_workers():
    episodes = collect(partial(LineEnv, fail_at=2), range(50), make_expert=LineExpert, workers=1)
    seeds = []
    with pytest.raises(SimulationError, match="seed 2 must fail"):
        seeds.extend(episode.seed for episode in episodes)
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_is_reported():
    episodes = collect(partial(LineEnv, die_at=1), range(4), make_expert=LineExpert, workers=1)
    with pytest.raises(SimulationError, match="workers must live until the last episode"):
        list(episodes)


def test_stopping_early_ends_the_workers_and_takes_few_seeds():
    taken = []

    def seeds():
        for seed in range(10_000):
            taken.append(seed)
            yield seed

    episodes = collect(LineEnv, seeds(), make_expert=LineExpert, workers=1)
    next(episodes)
    episodes.close()
    assert len(taken) <= 4
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_metaworld_pixels_do_not_depend_on_the_process():
    pytest.importorskip("vla_kit.envs.metaworld", exc_type=ImportError)
    name = "metaworld/faucet-open"
    make = partial(make_env, name, image_size=48)
    here = list(collect(make, range(3), disturbance=TASKS[name].disturbance))
    there = list(collect(make, range(3), disturbance=TASKS[name].disturbance, workers=2))
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.actions, other.actions)
        np.testing.assert_array_equal(one.frames["cam_high"], other.frames["cam_high"])
        assert one.frames["cam_high"].std() > 10


@pytest.mark.slow
def test_two_robots_render_in_one_process():
    pytest.importorskip("vla_kit.envs.metaworld", exc_type=ImportError)
    pytest.importorskip("vla_kit.envs.aloha", exc_type=ImportError)
    envs = [make_env(name, image_size=48) for name in ("metaworld/reach", "aloha/transfer-cube", "metaworld/push")]
    for env in envs:
        env.reset(0)
    first = [env.look()["cam_high"] for env in envs]
    envs[1].close()
    for index in (0, 2):
        np.testing.assert_array_equal(envs[index].look()["cam_high"], first[index])
        envs[index].close()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_ctrl_c_ends_everything(tmp_path):
    script = tmp_path / "record.py"
    script.write_text(
        textwrap.dedent("""
        import itertools, sys
        from functools import partial
        from vla_kit.envs import collect, make_env
        if __name__ == "__main__":
            for episode in collect(partial(make_env, "metaworld/reach"), itertools.count(), render=False, workers=2):
                print(episode.seed, flush=True)
        """)
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline().strip() == "0"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert "Process SpawnProcess" not in errors
    deadline = time.monotonic() + 5
    while (left := _running(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def _running(group):
    """Processes of a group that still run; one that nobody reaped has ended too."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = path.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                found.append(path.parent.name)
    return found
