"""Environments as actors of a Ray that the test starts."""

import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # actors get the path

from fake_env import LineEnv

from vla_kit.envs import SimulationError
from vla_kit.envs.episodes import begin_episode
from vla_kit.errors import SettingError

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.slow


def test_an_actor_that_fails_or_dies_is_told_and_replaced():
    from vla_kit.envs.ray_place import OnRay

    first, second = OnRay().open_hosts(2)
    first.give(partial(LineEnv, fail_at=2, die_at=1))
    second.give(LineEnv)
    assert first.facts.task == second.facts.task == "fake/line"
    first.submit(begin_episode, 2)
    second.submit(begin_episode, 7)
    with pytest.raises(SimulationError, match="seed 2 must fail"):
        first.result()
    assert second.result().instruction.endswith("7")
    first.submit(begin_episode, 1)
    with pytest.raises(SimulationError, match="a worker must live until it answers, got one that ended with its actor"):
        first.result()
    first.restart()
    first.submit(begin_episode, 3)
    assert first.result().instruction.endswith("3")
    for host in (first, second):
        host.close()


def test_refuses_settings():
    from vla_kit.envs.ray_place import OnRay

    with pytest.raises(SettingError, match="cores must be at least 0 and finite, got -1"):
        OnRay(cores=-1)
    with pytest.raises(SettingError, match="timeout_s must be above 0 and finite, got 0"):
        OnRay(timeout_s=0)
