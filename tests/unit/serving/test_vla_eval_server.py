"""vla-eval's own client, runner and protocol, unmodified, against our model server on loopback."""

import asyncio
import socket

import numpy as np
import pytest
from fake_policy import FakePolicy, picture
from vla_eval.benchmarks.base import StepBenchmark, StepResult
from vla_eval.connection import Connection
from vla_eval.model_servers.serve import serve_async
from vla_eval.runners.sync_runner import SyncEpisodeRunner

from vla_kit.embodiment import EmbodimentPrompter, preset
from vla_kit.errors import EmbodimentError, SettingError
from vla_kit.serving import vla_eval_server
from vla_kit.serving.vla_eval_server import VLAEvalServer

VIEWS = {"cam_high": "agentview", "cam_left_wrist": "wrist"}


def model_server(monkeypatch, policy, **settings):
    monkeypatch.setattr(vla_eval_server, "open_saved", lambda checkpoint, device: policy)
    return VLAEvalServer("folder", **({"embodiment": "arm", "views": VIEWS, "warm_up_size": 8} | settings))


def run(server, scenario):
    """Run a scenario with the address at which vla-eval serves."""

    async def inside():
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        serving = asyncio.create_task(serve_async(server, "127.0.0.1", port))
        try:
            while True:
                try:
                    (await asyncio.open_connection("127.0.0.1", port))[1].close()
                    break
                except OSError:
                    await asyncio.sleep(0.01)
            return await scenario(f"ws://127.0.0.1:{port}")
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)

    return asyncio.run(inside())


def look(value=0, words="push"):
    return {"images": {"agentview": picture(value), "wrist": picture(255)}, "task_description": words}


class Counting(StepBenchmark):
    """The camera shows the number of the step; done after some of them."""

    def __init__(self, steps):
        super().__init__()
        self.steps, self.actions = steps, []

    def get_tasks(self):
        return [{"name": "push"}]

    def reset(self, task):
        return 0

    def step(self, action):
        self.actions.append(np.asarray(action["actions"]))
        return StepResult(obs=len(self.actions), reward=0.0, done=len(self.actions) == self.steps, info={})

    def make_obs(self, raw_obs, task):
        return look(raw_obs, task["name"])

    def get_step_result(self, step_result):
        return {"success": step_result.done}


def test_an_episode_of_vla_eval_runs_on_our_chunks(monkeypatch):
    """Chunks of 4: the picture of step 0 gives actions 0 to 3, that of step 4 the next ones."""
    server, benchmark = model_server(monkeypatch, FakePolicy()), Counting(steps=6)

    async def scenario(address):
        async with Connection(address) as connection:
            return await SyncEpisodeRunner().run_episode(benchmark, {"name": "push"}, connection, max_steps=50)

    result = run(server, scenario)
    assert result["metrics"] == {"success": True}
    assert result["steps"] == 6
    assert [action.tolist() for action in benchmark.actions] == [[0.0, 0.0]] * 4 + [[4.0, 4.0]] * 2


def test_fewer_actions_of_each_chunk_look_more_often(monkeypatch):
    server, benchmark = model_server(monkeypatch, FakePolicy(), chunk_size=2), Counting(steps=5)

    async def scenario(address):
        async with Connection(address) as connection:
            await SyncEpisodeRunner().run_episode(benchmark, {"name": "push"}, connection)

    run(server, scenario)
    assert [action[0] for action in benchmark.actions] == [0, 0, 2, 2, 4]


def test_episodes_share_batches_and_each_gets_its_own_actions(monkeypatch):
    policy = FakePolicy(seconds=0.05)
    server = model_server(monkeypatch, policy, max_batch_size=4, max_wait_time=0.05)

    async def scenario(address):
        async def one(value):
            async with Connection(address) as connection:
                await connection.start_episode({"task": {"name": "push"}})
                return float((await connection.act(look(value)))["actions"][0])

        return await asyncio.gather(*(one(value) for value in range(8)))

    assert run(server, scenario) == list(range(8))
    asked = policy.batches[2:]  # without the warm-up
    assert sum(asked) == 8
    assert max(asked) > 1
    assert max(asked) <= 4


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"images": {"agentview": picture()}, "task_description": "push"}, "DataError: message of 'arm' must have"),
        ({"images": {"agentview": picture(), "wrist": picture()}}, "DataError: task_description must be a text"),
        (look() | {"states": np.array([np.nan])}, "DataError: states must be finite"),
        (look(words="burn"), "RuntimeError: the arm burns"),
        (look(words="vanish"), "DataError: actions must be finite"),
    ],
)
def test_an_error_is_told_in_vla_evals_way_and_the_connection_goes_on(monkeypatch, bad, reason):
    async def scenario(address):
        async with Connection(address) as connection:
            await connection.start_episode({})
            with pytest.raises(RuntimeError) as told:
                await connection.act(bad)
            return str(told.value), float((await connection.act(look(3)))["actions"][0])

    told, later = run(model_server(monkeypatch, FakePolicy()), scenario)
    assert reason in told
    assert later == 3


def test_it_is_warm_and_says_what_it_needs(monkeypatch):
    policy = FakePolicy()

    async def scenario(address):
        async with Connection(address) as connection:
            return connection.server_info

    told = run(model_server(monkeypatch, policy, max_batch_size=3), scenario)
    assert policy.batches == [1, 3]
    assert told["model_server"] == "VLAEvalServer"
    assert told["observation_params"] == {"send_wrist_image": True}
    assert set(told["observation_spec"]) == {"agentview", "wrist", "language"}
    assert set(told["action_spec"]) == {"actions"}


def test_a_policy_that_reads_states_asks_for_them_and_gets_them(monkeypatch):
    """The benchmark calls them `states`."""
    policy, got = FakePolicy(), []
    policy.states = "a scaler"
    policy.prompter = EmbodimentPrompter([preset("metaworld_sawyer")])
    act = policy.act
    policy.act = lambda seen: got.extend(one.state.tolist() for one in seen) or act(seen)
    server = model_server(monkeypatch, policy, embodiment="metaworld_sawyer", max_batch_size=1)
    assert server.get_observation_params() == {"send_wrist_image": True, "send_state": True}
    assert "state" in server.get_observation_spec()

    async def scenario(address):
        async with Connection(address) as connection:
            await connection.start_episode({})
            return await connection.act(look() | {"states": np.arange(4)})

    run(server, scenario)
    assert got == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 2, 3]]


def test_one_camera_asks_for_no_second(monkeypatch):
    server = model_server(monkeypatch, FakePolicy(), views={"cam_high": "agentview"})
    assert server.get_observation_params() == {}


def test_refuses(monkeypatch):
    with pytest.raises(EmbodimentError, match="'boat'"):
        model_server(monkeypatch, FakePolicy(), embodiment="boat")
    with pytest.raises(SettingError, match="views of 'arm' must name at least one picture"):
        model_server(monkeypatch, FakePolicy(), views={})
