"""LIBERO's scripted expert, on the real benchmark; skipped where it is not installed."""

from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("libero") is None:
    pytest.skip("pip install 'vla-kit[libero]' runs these tests", allow_module_level=True)

from vla_kit.envs import Expert, SimulationError, collect_episode, find_task, make_expert
from vla_kit.envs.libero import LiberoEnv
from vla_kit.envs.libero_expert import LiberoExpert, _rotation_between
from vla_kit.errors import SettingError


@pytest.fixture(scope="module")
def env():
    env = LiberoEnv("object-0")
    yield env
    env.close()


@pytest.fixture(scope="module")
def expert(env):
    return LiberoExpert(env)


def test_it_is_the_registered_expert(env, expert):
    assert isinstance(expert, Expert)
    assert type(make_expert(env)) is LiberoExpert


def test_it_puts_the_soup_into_the_basket_in_fresh_scenes(env, expert):
    episodes = [collect_episode(env, expert, seed, render=False) for seed in (10_000, 10_001)]
    assert all(episode.success for episode in episodes)
    assert np.abs(np.concatenate([episode.actions for episode in episodes])).max() <= 1.0


def test_it_does_so_when_shaken(env, expert):
    shake = find_task(env.task).disturbance
    assert collect_episode(env, expert, 10_002, disturbance=shake, render=False).success


def test_acting_twice_in_one_decision_gives_the_same_action(env, expert):
    env.reset(10_000)
    expert.reset()
    first = expert.act()
    np.testing.assert_array_equal(expert.act(), first)
    env.step(first)
    assert (expert.act() != first).any()


def test_it_tries_again_where_nothing_was_grasped(env, expert):
    env.reset(10_000)
    expert.reset()
    joint = env._data.joint(env._simulator.env.objects_dict[env._simulator.obj_of_interest[0]].joints[-1])
    away = False
    for _ in range(env.max_steps):
        if expert._number == 2 and not away:  # while the fingers close, the soup jumps aside
            joint.qpos[:2] += [0.0, 0.12]
            away = True
        if env.step(expert.act()).done:
            break
    assert away
    assert env._success


def test_order_of_calls_is_checked():
    env = LiberoEnv("object-0")
    expert = LiberoExpert(env)
    with pytest.raises(SimulationError, match="act must come after reset of the expert"):
        expert.act()
    with pytest.raises(SimulationError, match="reset must come after reset of the environment"):
        expert.reset()
    env.close()


def test_other_suites_have_no_expert():
    env = LiberoEnv("goal-0")
    with pytest.raises(SettingError, match=r"env must run a task of the suites \['object', 'spatial'\], got"):
        make_expert(env)
    env.close()


def test_small_rotations_are_found_along_the_axes_of_the_world():
    angle = 0.01
    turned = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    now = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    np.testing.assert_allclose(_rotation_between(now, turned @ now), [angle, 0, 0], atol=1e-5)
