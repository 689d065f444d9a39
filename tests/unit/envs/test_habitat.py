"""The adapter of VLN-CE against a stand-in for Habitat, which cannot be installed here."""

import math
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from habitat_stand_in import MADE, WALL, episode, stand_in

from vla_kit.envs import Navigating, PolicyEnv, SimulationError
from vla_kit.envs.seeds import EVALUATION_SEEDS_FROM as FIRST
from vla_kit.errors import SettingError, ShapeError

CONFIGURATIONS = {
    "three.yaml": {
        "episodes": [
            episode(10),
            episode(11, goal=(4.0, 0.0, 0.0), yaw=-math.pi / 2, words="go east"),
            episode(12, goal=(500.0, 0.0, 0.0)),
        ]
    },
    "short.yaml": {"episodes": [episode(10)], "limit": 3},
    "empty.yaml": {"episodes": []},
}


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setitem(sys.modules, "habitat", stand_in(CONFIGURATIONS))
    monkeypatch.delitem(sys.modules, "vla_kit.envs.habitat", raising=False)
    module = import_module("vla_kit.envs.habitat")
    yield module.HabitatVLNEnv
    sys.modules.pop("vla_kit.envs.habitat", None)


def forward(metres):
    return np.array([metres, 0.0, 0.0])


def test_it_is_a_policy_env_that_navigates(make):
    env = make("three.yaml")
    assert isinstance(env, PolicyEnv)
    assert isinstance(env, Navigating)
    assert (env.task, env.view_tags, env.rate_hz, env.max_steps) == ("habitat/vln-ce", ("ego",), 2.0, 200)
    assert env.reset(FIRST) == env.instruction == "walk ahead"
    assert {tag: (one.shape, one.dtype) for tag, one in env.look().items()} == {"ego": ((8, 8, 3), np.uint8)}
    env.close()
    assert MADE[-1].closed


def test_seeds_name_episodes_in_order_and_around(make):
    env = make("three.yaml")
    assert [env.reset(FIRST + number) for number in (1, 0, 4)] == ["go east", "walk ahead", "go east"]
    assert MADE[-1].current_episode.episode_id == "11"


def test_waypoints_become_steps_and_turns(make):
    env = make("three.yaml")
    env.reset(FIRST)
    env.step(np.array([0.5, 0.0, math.pi / 6]))
    assert MADE[-1].taken == [1, 1, 2, 2]
    np.testing.assert_allclose(MADE[-1].sim.place, [0.0, 0.0, -0.5], atol=1e-12)
    env.step(np.array([0.0, 0.25, 0.0]))  # to the left, and back to the heading: half a step or more is missing
    assert MADE[-1].taken[4:] == [2] * 6 + [1] + [3] * 6


def test_what_rounding_leaves_is_made_up_for(make):
    env = make("three.yaml")
    env.reset(FIRST)
    for _ in range(10):
        env.step(forward(0.1))
    assert MADE[-1].taken == [1] * 4  # one metre in all
    for _ in range(5):
        env.step(np.array([0.3, 0.0, math.radians(6)]))
    assert MADE[-1].taken.count(2) == 2  # 30 degrees in all


def test_a_wall_is_not_pushed_for_ever(make):
    env = make("three.yaml")
    env.reset(FIRST + 1)  # looks east, along x
    for _ in range(8):
        env.step(forward(0.5))
    assert MADE[-1].sim.place[0] == pytest.approx(WALL - 0.25)
    before = len(MADE[-1].taken)
    env.step(np.array([-0.25, 0.0, 0.0]))
    assert MADE[-1].sim.place[0] == pytest.approx(WALL - 0.5)  # turned round at once, and back again
    assert (len(MADE[-1].taken) - before, MADE[-1].taken[before:].count(1)) == (25, 1)


def test_standing_still_is_habitats_stop(make):
    env = make("three.yaml")
    env.reset(FIRST)
    for _ in range(4):
        env.step(forward(0.5))
    results = [env.step(np.zeros(3)) for _ in range(4)]
    assert [one.done for one in results] == [False, False, False, True]
    assert results[-1].success
    assert MADE[-1].taken == [1] * 8 + [0]
    trace = env.navigation_trace()
    assert trace.stopped
    assert (trace.shortest_m, trace.goal_distances[-1], trace.success_m) == (2.0, 0.0, 3.0)
    assert trace.path.shape == (9, 3)
    np.testing.assert_allclose(trace.path[-1], [0, 0, -2], atol=1e-12)
    np.testing.assert_array_equal(trace.reference, [[0, 0, 0], [0, 0, -2]])
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        env.step(np.zeros(3))


def test_near_the_goal_without_a_stop_is_a_failure(make):
    env = make("three.yaml", max_steps=3)
    env.reset(FIRST)
    results = [env.step(forward(0.5)) for _ in range(3)]
    assert results[-1].done
    assert not results[-1].success
    assert not env.navigation_trace().stopped
    assert env.navigation_trace().goal_distances[-1] < 3.0


def test_a_stop_too_far_away_is_a_failure(make):
    env = make("three.yaml", success_m=1.0)
    env.reset(FIRST)
    results = [env.step(np.zeros(3)) for _ in range(4)]
    assert results[-1].done
    assert not results[-1].success


def test_habitats_own_limit_ends_the_episode_within_a_waypoint(make):
    env = make("short.yaml")
    env.reset(FIRST)
    env.step(forward(0.5))
    result = env.step(forward(0.5))
    assert result.done
    assert MADE[-1].taken == [1, 1, 1]


def test_a_goal_out_of_reach_is_named(make):
    env = make("three.yaml")
    with pytest.raises(SimulationError, match="the goal of episode 12 must be reached from its start"):
        env.reset(FIRST + 2)
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        env.step(np.zeros(3))


def test_what_does_not_fit_is_refused(make):
    with pytest.raises(SettingError, match=r"config must name a split with episodes, got none in empty\.yaml"):
        make("empty.yaml")
    with pytest.raises(SettingError, match="success_m must be above 0 and finite, got 0"):
        make("three.yaml", success_m=0)
    env = make("three.yaml", picture="colour")
    with pytest.raises(SimulationError, match="look must come after reset"):
        env.look()
    with pytest.raises(SimulationError, match="navigation_trace must come after reset"):
        env.navigation_trace()
    env.reset(FIRST)
    with pytest.raises(SimulationError, match=r"observations must hold 'colour', got \['depth', 'rgb'\]"):
        env.look()
    with pytest.raises(ShapeError, match=r"action must have the shape \(3,\), got \(7,\)"):
        env.step(np.zeros(7))


def test_a_missing_habitat_is_named_with_its_remedy():
    code = "import sys\nsys.modules['habitat'] = None\nimport vla_kit.envs.habitat\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'vla-kit[habitat]'" in done.stderr.splitlines()[-1]
