"""Environments behind a socket of this machine."""

import os
import queue
import sys
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # workers get the path

from fake_env import LineEnv

from vla_kit.envs import SimulationError
from vla_kit.envs.episodes import begin_episode, run_chunk
from vla_kit.envs.places import EnvPlace, InProcesses, InThisProcess, OnServers
from vla_kit.envs.remote import RemoteEnv, read_key, serve_envs
from vla_kit.errors import SettingError, ShapeError


class SleepyEnv(LineEnv):
    """Never begins episode 5; refuses episode 6."""

    def reset(self, seed):
        if seed == 5:
            time.sleep(3600)
        if seed == 6:
            raise ShapeError("seed must not be 6, got 6. Take another.")
        return super().reset(seed)


def process_of(env):
    return os.getpid()


@pytest.fixture(scope="module")
def key_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_bytes(bytes(range(32)))
    return path


@pytest.fixture(scope="module")
def address(key_file):
    return start(key_file)


def start(key_file, **settings):
    ready = queue.Queue()
    serve = partial(serve_envs, str(key_file), "127.0.0.1:0", on_ready=ready.put, **settings)
    threading.Thread(target=serve, daemon=True).start()
    return ready.get(timeout=60)


@pytest.fixture
def host(address, key_file):
    made = RemoteEnv(address, key=read_key(key_file), timeout_s=60)
    yield made
    made.close()


def test_runs_functions_on_an_environment_of_the_server(host):
    host.give(LineEnv)
    assert (host.facts.task, host.facts.max_steps) == ("fake/line", 6)
    host.submit(process_of)
    there = host.result()
    assert there != os.getpid()
    host.submit(begin_episode, 3)
    assert host.result().instruction == "go to one, number 3"
    host.submit(run_chunk, np.tile([0.25, 0.0], (8, 1)))
    assert host.result().success
    host.give(partial(LineEnv))  # another recipe, the same process
    host.submit(process_of)
    assert host.result() == there


def test_what_raises_dies_or_refuses_is_told_and_begins_anew(host):
    host.give(partial(LineEnv, fail_at=2, die_at=1))
    host.submit(begin_episode, 2)
    with pytest.raises(SimulationError, match="seed 2 must fail"):
        host.result()
    host.submit(begin_episode, 1)
    with pytest.raises(SimulationError, match="a worker must live until it answers, got one that ended with its conn"):
        host.result()
    host.restart()
    host.submit(begin_episode, 3)
    assert host.result().instruction.endswith("3")
    host.give(SleepyEnv)
    host.submit(begin_episode, 6)
    with pytest.raises(ShapeError, match="seed must not be 6"):
        host.result()


def test_what_hangs_is_given_up_and_a_new_one_is_made(address, key_file):
    host = RemoteEnv(address, key=read_key(key_file), timeout_s=4)
    host.give(SleepyEnv)
    host.submit(process_of)
    hanging = host.result()
    host.submit(begin_episode, 5)
    with pytest.raises(SimulationError, match="a worker must answer within 4 s"):
        host.result()
    host.restart()
    host.submit(process_of)
    assert host.result() != hanging
    host.close()


@pytest.mark.slow
def test_a_process_that_hangs_ends_after_its_client(host):
    host.give(SleepyEnv)
    host.submit(process_of)
    hanging = Path(f"/proc/{host.result()}")
    host.submit(begin_episode, 5)
    host.close()
    deadline = time.monotonic() + 120
    while hanging.exists() and "Z" not in hanging.joinpath("stat").read_text() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not hanging.exists() or "Z" in hanging.joinpath("stat").read_text()


def test_more_environments_than_allowed_are_turned_away(key_file):
    first, second = (RemoteEnv(address, key=read_key(key_file)) for address in [start(key_file, max_envs=1)] * 2)
    first.give(LineEnv)
    assert first.facts.task == "fake/line"
    second.give(LineEnv)
    with pytest.raises(SimulationError, match="a worker must live until it answers, got one that ended with its conn"):
        second.facts  # noqa: B018 (the property asks the worker)
    first.close()
    second.close()


def test_a_stranger_is_turned_away(address):
    stranger = RemoteEnv(address, key=b"another key of many bytes")
    with pytest.raises(SettingError, match=f"key must be that of the server {address}, got another"):
        stranger.give(LineEnv)


def test_no_server_is_told():
    host = RemoteEnv("127.0.0.1:1", key=bytes(16))
    with pytest.raises(SimulationError, match=r"a server of environments must answer at 127\.0\.0\.1:1"):
        host.give(LineEnv)


def test_places_open_hosts(address, key_file):
    places = [InThisProcess(), InProcesses(), OnServers([address, address], key_file=str(key_file))]
    for place in places:
        assert isinstance(place, EnvPlace)
        hosts = place.open_hosts(3)
        assert len(hosts) == 3
        hosts[0].give(LineEnv)
        hosts[0].submit(begin_episode, 3)
        assert hosts[0].result().instruction.endswith("3")
        hosts[0].close()


@pytest.mark.parametrize("wrong", ["nowhere", ":7010", "host:", "host:port", "host:70000"])
def test_refuses_addresses(wrong, key_file):
    with pytest.raises(SettingError, match="address must be host:port, got"):
        RemoteEnv(wrong, key=bytes(16))
    with pytest.raises(SettingError, match="address must be host:port, got"):
        OnServers([wrong], key_file=str(key_file))


def test_refuses_settings(tmp_path):
    with pytest.raises(SettingError, match="addresses must name at least one server, got none"):
        OnServers([], key_file="key")
    (tmp_path / "short").write_bytes(b"short")
    for path, size in ((tmp_path / "short", 5), (tmp_path / "none", 0)):
        with pytest.raises(SettingError, match=f"key_file must hold at least 16 bytes, got {size}"):
            read_key(path)
    with pytest.raises(SettingError, match="timeout_s must be above 0 and finite, got 0"):
        InProcesses(timeout_s=0)
