"""Environments in processes: fakes that fail in every way, quickly."""

import os
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers get the path

from fake_env import LineEnv

from vla_kit.envs import EnvHere, EnvWorker, SimulationError, env_workers
from vla_kit.envs.episodes import act_alone, begin_episode, replay_episode, run_chunk
from vla_kit.errors import SettingError, ShapeError

QUARTERS = np.tile([0.25, 0.0], (8, 1))


class HangingEnv(LineEnv):
    """Never begins episode 5; refuses actions of another size."""

    def reset(self, seed):
        if seed == 5:
            time.sleep(3600)
        return super().reset(seed)

    def step(self, action):
        if len(action) != 2:
            raise ShapeError(f"action must have the shape (2,), got {action.shape}. Cut it.")
        return super().step(action)


def process_of(env):
    return os.getpid()


@pytest.fixture(params=["here", "worker"])
def host(request):
    made = EnvHere() if request.param == "here" else EnvWorker(timeout_s=30)
    yield made
    made.close()


def test_a_host_runs_functions_on_its_environment_wherever_it_is(host):
    host.give(LineEnv)
    assert (host.facts.task, host.facts.embodiment, host.facts.max_steps) == ("fake/line", "line", 6)
    np.testing.assert_array_equal(host.facts.action_high, [1.0, 1.0])
    host.submit(begin_episode, 3)
    scene = host.result()
    assert scene.instruction == "go to one, number 3"
    assert scene.sight.views["cam_high"].shape == (2, 3, 3)
    host.submit(begin_episode, 3, "stay")
    assert host.result().instruction == "stay"
    host.submit(run_chunk, QUARTERS[:3])
    first = host.result()
    assert (first.steps, first.success, first.done) == (3, False, False)
    assert first.sight.views["cam_high"][1, 0, 0] == 3  # the picture after the third step
    host.submit(run_chunk, QUARTERS)
    last = host.result()
    assert (last.steps, last.success, last.done, last.sight) == (1, True, True, None)  # nobody acts on the last picture


def test_a_chunk_is_looked_at_once_and_a_replay_at_every_step():
    env = LineEnv()
    begin_episode(env, 0)
    run_chunk(env, QUARTERS[:3])
    assert env.looks == 2
    pictures = replay_episode(env, 0, QUARTERS[:4], True)
    assert pictures.shape == (5, 2, 3, 3)
    assert pictures[:, 1, 0, 0].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(SimulationError, match="an episode must be the same each time for a seed, got another end"):
        replay_episode(env, 0, QUARTERS[:3], True)
    with pytest.raises(SimulationError, match="got another end for seed 0"):
        replay_episode(env, 0, QUARTERS[:5], True)


def test_views_of_several_sizes_stand_side_by_side():
    class Two(LineEnv):
        def look(self):
            return {"a": np.full((2, 3, 3), 7, dtype=np.uint8), "b": np.full((4, 1, 3), 9, dtype=np.uint8)}

    (first, *_) = replay_episode(Two(), 0, QUARTERS[:4], True)
    assert first.shape == (4, 4, 3)
    assert first[:, 0, 0].tolist() == [0, 0, 7, 7]
    assert first[:, 3, 0].tolist() == [9, 9, 9, 9]


def test_acting_alone_at_random_depends_on_the_seed_alone():
    first, second = (act_alone(LineEnv(), 11, None) for _ in range(2))
    assert first == second
    rng, position, steps = np.random.default_rng(11), 0.0, 0
    while position < 1 and steps < 6:
        position, steps = position + rng.uniform(-1, 1, size=(1, 2))[0, 0], steps + 1
    assert (first.steps, first.success) == (steps, position >= 1)


def test_workers_are_processes_of_their_own_and_work_at_once():
    with env_workers(2, timeout_s=30) as workers:
        for worker in workers:
            worker.give(LineEnv)
            worker.submit(process_of)
        ids = {worker.result() for worker in workers}
        assert len(ids | {os.getpid()}) == 3
        workers[0].give(partial(LineEnv))  # another recipe, the same process
        workers[0].submit(process_of)
        assert workers[0].result() in ids
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{one}").exists() for one in ids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{one}").exists() for one in ids)


def test_what_raises_is_told_and_the_worker_can_begin_anew(host):
    host.give(partial(LineEnv, fail_at=2))
    host.submit(begin_episode, 2)
    with pytest.raises(SimulationError, match="seed 2 must fail"):
        host.result()
    host.restart()
    host.submit(begin_episode, 3)
    assert host.result().instruction.endswith("3")
    host.submit(run_chunk, np.array([["x"]]))  # not the library's own error
    with pytest.raises(SimulationError, match="the environment must not fail, got"):
        host.result()


def test_what_the_environment_refuses_keeps_its_kind(host):
    host.give(HangingEnv)
    host.submit(begin_episode, 0)
    host.result()
    host.submit(run_chunk, np.zeros((1, 3)))
    with pytest.raises(ShapeError, match=r"action must have the shape \(2,\), got \(3,\)") as caught:
        host.result()
    if isinstance(host, EnvWorker):
        assert "In the worker process" in caught.value.__notes__[0]


def test_a_worker_that_dies_is_told_and_replaced():
    with env_workers(1, timeout_s=30) as (worker,):
        worker.give(partial(LineEnv, die_at=1))
        worker.submit(begin_episode, 1)
        with pytest.raises(SimulationError, match=r"a worker must live .* ended with status 3"):
            worker.result()
        with pytest.raises(SimulationError, match="a host must hold an environment"):
            worker.submit(begin_episode, 2)
        worker.restart()
        worker.submit(begin_episode, 2)
        assert worker.result().instruction.endswith("2")


def test_a_worker_that_hangs_is_ended_and_replaced():
    with env_workers(1, timeout_s=0.5) as (worker,):
        worker.give(HangingEnv)
        worker.submit(process_of)
        hanging = worker.result()
        worker.submit(begin_episode, 5)
        start = time.monotonic()
        with pytest.raises(SimulationError, match=r"a worker must answer within 0\.5 s, got no answer"):
            worker.result()
        assert time.monotonic() - start < 30
        assert not Path(f"/proc/{hanging}").exists()
        worker.restart()
        worker.submit(begin_episode, 6)
        assert worker.result().instruction.endswith("6")


def test_an_environment_that_cannot_be_made_is_told():
    with env_workers(1) as (worker,):
        worker.give(partial(LineEnv, colour="red"))
        with pytest.raises(SimulationError, match="colour"):
            worker.facts  # noqa: B018


def test_refuses(host):
    with pytest.raises(SimulationError, match="a host must hold an environment, got none"):
        host.facts  # noqa: B018
    host.give(LineEnv)
    with pytest.raises(SimulationError, match="result must come after submit"):
        host.result()
    with pytest.raises(SettingError, match="count must be at least 1, got 0"), env_workers(0):
        pass
    with pytest.raises(SettingError, match="timeout_s must be above 0 and finite, got 0"):
        EnvWorker(timeout_s=0)
    with pytest.raises(SettingError, match="make_env must be picklable for a worker process"):
        EnvWorker().give(lambda: LineEnv())


def test_one_question_at_a_time():
    with env_workers(1) as (worker,):
        worker.give(LineEnv)
        worker.submit(begin_episode, 0)
        with pytest.raises(SimulationError, match="submit must come after result"):
            worker.submit(begin_episode, 1)
