import numpy as np
import pytest
from fake_env import LineEnv, LineExpert

from vla_kit.envs import (
    Disturbance,
    Expert,
    PolicyEnv,
    Proprioceptive,
    SimulationError,
    collect,
    collect_episode,
    robot_state,
)
from vla_kit.errors import SettingError

SHAKE = Disturbance(sigmas=(0.2,), channels=(True, False))


def test_the_fakes_satisfy_the_protocols():
    env = LineEnv()
    assert isinstance(env, PolicyEnv)
    assert isinstance(LineExpert(env), Expert)


def test_one_picture_before_each_decision():
    env = LineEnv()
    episode = collect_episode(env, LineExpert(env), 7)
    assert episode.success
    assert (episode.task, episode.embodiment, episode.seed) == ("fake/line", "line", 7)
    assert episode.instruction == "go to one, number 7"
    assert episode.actions.dtype == np.float32
    np.testing.assert_array_equal(episode.actions, [[0.25, 7]] * 4)
    assert episode.frames["cam_high"].shape == (4, 2, 3, 3)
    assert episode.frames["cam_high"][:, 0, 0, 0].tolist() == [0, 25, 50, 75]  # taken before its action
    assert env.looks == 4


def test_clean_actions_are_recorded_and_shaken_ones_executed():
    env = LineEnv()
    episode = collect_episode(env, LineExpert(env), 1, disturbance=SHAKE)
    executed = np.array(env.executed)
    assert (episode.actions[:, 0] == 0.25).all()
    assert (executed[:, 0] != 0.25).all()
    np.testing.assert_array_equal(executed[:, 1], episode.actions[:, 1])


def test_without_rendering_nothing_is_looked_at():
    env = LineEnv()
    episode = collect_episode(env, LineExpert(env), 1, render=False)
    assert episode.frames == {}
    assert env.looks == 0


def test_an_unsolved_episode_ends_after_max_steps():
    env = LineEnv()
    push_back = Disturbance(sigmas=(5.0,), channels=(True, False))
    episodes = [collect_episode(env, LineExpert(env), seed, disturbance=push_back) for seed in range(20)]
    unsolved = [episode for episode in episodes if not episode.success]
    assert unsolved
    assert {len(episode.actions) for episode in unsolved} == {6}


def test_an_episode_depends_on_its_seed_alone():
    env = LineEnv()
    expert = LineExpert(env)
    first = collect_episode(env, expert, 5, disturbance=SHAKE)
    collect_episode(env, expert, 6, disturbance=SHAKE)
    again = collect_episode(env, expert, 5, disturbance=SHAKE)
    np.testing.assert_array_equal(first.frames["cam_high"], again.frames["cam_high"])
    assert expert.resets == 3


def test_a_disturbance_of_another_robot_is_refused():
    env = LineEnv()
    with pytest.raises(SettingError, match="disturbance must have 2 channels for fake/line, got 3"):
        collect_episode(env, LineExpert(env), 0, disturbance=Disturbance(sigmas=(0.0,), channels=(True,) * 3))


def test_collect_here_keeps_the_order_and_closes():
    made = []

    def make():
        made.append(LineEnv())
        return made[-1]

    seeds = [3, 1, 2]
    assert [episode.seed for episode in collect(make, seeds, make_expert=LineExpert)] == seeds
    assert len(made) == 1
    assert made[0].closed


def test_collect_here_closes_when_the_caller_stops():
    env = LineEnv()
    episodes = collect(lambda: env, range(1000), make_expert=LineExpert)
    next(episodes)
    episodes.close()
    assert env.closed


def test_collect_here_raises_what_the_simulator_raises():
    env = LineEnv(fail_at=2)
    with pytest.raises(SimulationError, match="seed 2 must fail"):
        list(collect(lambda: env, range(4), make_expert=LineExpert))
    assert env.closed


def test_negative_workers_are_refused_at_once():
    with pytest.raises(SettingError, match="workers must be >= 0, got -1"):
        collect(LineEnv, [0], make_expert=LineExpert, workers=-1)


def test_what_acts_before_the_expert_is_not_recorded():
    env = LineEnv()

    def two_steps(env, seed):
        return not any(env.step(np.array([0.25, seed])).done for _ in range(2))

    episode = collect_episode(env, LineExpert(env), 7, start=two_steps)
    assert episode.success
    np.testing.assert_array_equal(episode.actions, [[0.25, 7]] * 2)
    assert episode.frames["cam_high"][:, 0, 0, 0].tolist() == [50, 75]
    assert len(env.executed) == 4


def test_an_episode_that_ends_before_the_expert_acts_has_no_step():
    env = LineEnv()
    episode = collect_episode(env, LineExpert(env), 7, start=lambda env, seed: not env.step(np.ones(2)).done)
    assert not episode.success
    assert episode.actions.shape == (0, 2)
    assert episode.frames == {}


def test_collect_hands_the_start_on():
    env = LineEnv()
    episodes = collect(
        lambda: env, [1, 2], make_expert=LineExpert, start=lambda env, seed: not env.step(np.array([0.5, 0])).done
    )
    assert [len(episode.actions) for episode in episodes] == [2, 2]


class FeelingEnv(LineEnv):
    """Knows where it stands."""

    def robot_state(self):
        return np.array([self.position, 1.0])


def test_states_are_recorded_where_the_robot_measures_itself():
    env = FeelingEnv()
    assert isinstance(env, Proprioceptive)
    episode = collect_episode(env, LineExpert(env), 7)
    np.testing.assert_array_equal(episode.states, [[0, 1], [0.25, 1], [0.5, 1], [0.75, 1]])  # before its action
    plain = LineEnv()
    assert collect_episode(plain, LineExpert(plain), 7).states is None
    assert robot_state(plain) is None
