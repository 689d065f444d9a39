import numpy as np
import pytest

pytest.importorskip("vla_kit.envs.aloha", exc_type=ImportError)

from vla_kit.envs import TASKS, SimulationError, collect_episode
from vla_kit.envs.aloha import AlohaEnv
from vla_kit.envs.aloha_expert import AlohaTransferExpert


@pytest.fixture(scope="module")
def env():
    env = AlohaEnv(image_size=48)
    yield env
    env.close()


@pytest.fixture(scope="module")
def expert(env):
    return AlohaTransferExpert(env)


def test_no_plan_before_reset():
    env = AlohaEnv()
    expert = AlohaTransferExpert(env)
    with pytest.raises(SimulationError, match="act must come after reset of the expert"):
        expert.act()
    with pytest.raises(SimulationError, match="reset must come after reset of the environment"):
        expert.reset()
    env.close()


def test_it_hands_over_the_cube(env, expert):
    episodes = [collect_episode(env, expert, seed, render=False) for seed in range(4)]
    assert all(episode.success for episode in episodes)
    assert max(len(episode.actions) for episode in episodes) <= 37  # 3 s


def test_it_hands_over_the_cube_when_shaken(env, expert):
    shake = TASKS[env.task].disturbance
    episodes = [collect_episode(env, expert, seed, disturbance=shake, render=False) for seed in range(4)]
    assert sum(episode.success for episode in episodes) >= 3


def test_actions_stay_inside_the_limits_and_move_smoothly(env, expert):
    episode = collect_episode(env, expert, 1, render=False)
    assert (episode.actions >= env.action_low - 1e-6).all()
    assert (episode.actions <= env.action_high + 1e-6).all()
    joints = np.delete(episode.actions, [6, 13], axis=1)
    assert np.abs(np.diff(joints, axis=0)).max() < 0.3


def test_near_cubes_have_near_plans_and_idle_joints_are_exactly_constant(env, expert):
    episodes = [collect_episode(env, expert, seed, render=False) for seed in range(6)]
    actions = np.concatenate([episode.actions for episode in episodes])
    idle = [0, 3, 10, 12]  # left waist, both forearm rolls, right wrist rotation
    assert np.flatnonzero(np.ptp(actions, axis=0) == 0).tolist() == idle
    assert np.abs(actions).max() < 2.0  # no half turns


def test_acting_twice_in_one_decision_gives_the_same_action(env, expert):
    env.reset(2)
    expert.reset()
    np.testing.assert_array_equal(expert.act(), expert.act())
    first = expert.act()
    env.step(first)
    assert (expert.act() != first).any()


def test_the_last_targets_are_held(env, expert):
    env.reset(2)
    expert.reset()
    env._decisions = 37
    held = expert.act()
    env._decisions = 59
    np.testing.assert_array_equal(expert.act(), held)


@pytest.mark.slow
def test_success_over_twenty_scenes(env, expert):
    assert sum(collect_episode(env, expert, seed, render=False).success for seed in range(20)) >= 19
