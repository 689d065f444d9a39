import warnings

import numpy as np
import pytest

pytest.importorskip("vla_kit.envs.metaworld", exc_type=ImportError)

from vla_kit.envs import (
    PAIRS,
    TASKS,
    PolicyEnv,
    Proprioceptive,
    SimulationError,
    collect_episode,
    random_actions,
    robot_state,
)
from vla_kit.envs.metaworld import MetaWorldEnv, MetaWorldExpert
from vla_kit.errors import SettingError, ShapeError

NAMES = [name.removeprefix("metaworld/") for name in TASKS if name.startswith("metaworld/")]
FEW = 3


@pytest.fixture(scope="module")
def faucets():
    envs = [MetaWorldEnv(name.removeprefix("metaworld/"), image_size=64) for name in PAIRS[0]]
    yield envs
    for env in envs:
        env.close()


@pytest.fixture
def reach():
    env = MetaWorldEnv("reach", image_size=48, max_steps=4)
    yield env
    env.close()


def test_it_is_a_policy_env_with_the_documented_numbers(reach):
    assert isinstance(reach, PolicyEnv)
    assert (reach.task, reach.embodiment, reach.view_tags) == ("metaworld/reach", "metaworld_sawyer", ("cam_high",))
    assert (reach.rate_hz, reach.max_steps) == (20.0, 4)
    assert reach.action_low.tolist() == [-1] * 4
    assert reach.action_high.tolist() == [1] * 4


def test_rate_follows_frame_skip():
    env = MetaWorldEnv("reach", frame_skip=8, max_steps=25)
    assert env.rate_hz == 10.0
    env.close()


def test_the_pair_shows_equal_first_pictures(faucets):
    for seed in range(5):
        for env in faucets:
            env.reset(seed)
        first, second = (env.look()["cam_high"] for env in faucets)
        np.testing.assert_array_equal(first, second)


def test_the_pair_stays_equal_under_equal_actions(faucets):
    actions = random_actions(-np.ones(4), np.ones(4), rng=np.random.default_rng(0), steps=10)
    for env in faucets:
        env.reset(11)
        for action in actions:
            assert not env.step(action).done
    np.testing.assert_array_equal(faucets[0].look()["cam_high"], faucets[1].look()["cam_high"])


def test_the_pair_wants_opposite_directions_which_are_right_and_left_in_the_picture(faucets):
    camera = np.deg2rad(faucets[0]._camera._camera.azimuth)
    right_in_picture = np.array([np.sin(camera), -np.cos(camera), 0.0])
    for env, side in zip(faucets, (1, -1), strict=True):
        expert = MetaWorldExpert(env)
        env.reset(0)
        expert.reset()
        np.testing.assert_allclose(_handle(env)[0], 0.0, atol=0.02)  # points at the robot, which faces +y
        done = False
        while not done:
            done = env.step(expert.act()).done
        assert side * _handle(env)[0] > 0.1  # +x is the robot's right
        assert side * (_handle(env) @ right_in_picture) > 0.03


def _handle(env):
    """The tip of the faucet's handle, seen from its base."""
    tips = [env._simulator.data.site(f"handleStart{name}").xpos for name in ("Open", "Close")]
    return np.mean(tips, axis=0) - env._simulator.data.body("faucetBase").xpos


def test_a_seed_gives_the_same_episode_whatever_came_before(faucets):
    env = faucets[0]
    expert = MetaWorldExpert(env)
    shake = TASKS[env.task].disturbance
    first = collect_episode(env, expert, 4, disturbance=shake)
    collect_episode(env, expert, 5, render=False)
    again = collect_episode(env, expert, 4, disturbance=shake)
    np.testing.assert_array_equal(first.actions, again.actions)
    np.testing.assert_array_equal(first.frames["cam_high"], again.frames["cam_high"])
    assert first.instruction == again.instruction


def test_seeds_move_the_object(faucets):
    pictures = []
    for seed in range(3):
        faucets[0].reset(seed)
        pictures.append(faucets[0].look()["cam_high"])
    assert (pictures[0] != pictures[1]).any()
    assert (pictures[1] != pictures[2]).any()


def test_the_instruction_may_be_swapped_until_the_next_reset(faucets):
    env = faucets[0]
    drawn = env.reset(3)
    assert env.instruction == drawn
    env.instruction = TASKS[env.task].instruction(3).replace("right", "left")
    assert env.instruction != drawn
    assert env.reset(3) == drawn == env.instruction


@pytest.mark.parametrize(("name", "visible"), [("reach", True), ("push", True), ("drawer-open", False)])
def test_goal_markers_show_only_where_they_are_the_goal(name, visible):
    env = MetaWorldEnv(name, image_size=64)
    env.reset(0)
    with_setting = env.look()["cam_high"]
    env._camera._option.sitegroup[:] = 0
    without = env.look()["cam_high"]
    env.close()
    assert (with_setting != without).any() == visible


def test_actions_are_clipped(reach):
    pictures = []
    for scale in (1.0, 7.0):
        reach.reset(0)
        reach.step(np.array([scale, -scale, scale, -scale]))
        pictures.append(reach.look()["cam_high"])
    np.testing.assert_array_equal(*pictures)


def test_the_hand_moves_by_frame_skip_centimetres(reach):
    reach.reset(0)
    before = reach._simulator.data.mocap_pos[0].copy()
    reach.step(np.array([1.0, 0.0, 0.5, -1.0]))
    np.testing.assert_allclose(reach._simulator.data.mocap_pos[0] - before, [0.04, 0.0, 0.02], atol=1e-9)


def test_an_episode_ends_after_max_steps_and_must_be_reset(reach):
    reach.reset(0)
    results = [reach.step(np.array([0.0, -1.0, 0.0, 0.0])) for _ in range(4)]
    assert [result.done for result in results] == [False, False, False, True]
    assert not results[-1].success
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        reach.step(np.zeros(4))
    reach.reset(1)
    assert not reach.step(np.zeros(4)).done


def test_nothing_works_before_the_first_reset(reach):
    with pytest.raises(SimulationError, match="look must come after reset"):
        reach.look()
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        reach.step(np.zeros(4))
    with pytest.raises(SimulationError, match="act must come after reset of the environment"):
        MetaWorldExpert(reach).act()


def test_wrong_actions_and_seeds_are_named(reach):
    reach.reset(0)
    with pytest.raises(ShapeError, match=r"action must have the shape \(4,\), got \(14,\)"):
        reach.step(np.zeros(14))
    with pytest.raises(SettingError, match="action must be finite"):
        reach.step(np.full(4, np.nan))
    with pytest.raises(SettingError, match="seed must lie in"):
        reach.reset(-1)


@pytest.mark.parametrize(
    ("task", "settings", "text"),
    [
        ("fly", {}, r"task must be one of \['button-press-topdown'.*got 'fly'"),
        ("reach", {"frame_skip": 0}, "frame_skip must be >= 1, got 0"),
        ("reach", {"max_steps": 126}, "max_steps must be >= 1 and at most 125, got 126"),
        ("reach", {"max_steps": 0}, "max_steps must be >= 1"),
        ("reach", {"image_size": 0}, "image_size must be >= 1"),
    ],
)
def test_wrong_settings_are_named(task, settings, text):
    with pytest.raises(SettingError, match=text):
        MetaWorldEnv(task, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_the_expert_solves_every_task_silently(name):
    env = MetaWorldEnv(name)
    expert = MetaWorldExpert(env)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        episodes = [collect_episode(env, expert, seed, render=False) for seed in range(FEW)]
    env.close()
    assert sum(episode.success for episode in episodes) >= FEW - 1
    assert all((np.abs(episode.actions) <= 1).all() for episode in episodes)


def test_random_actions_do_not_turn_the_faucet(faucets):
    rng = np.random.default_rng(0)
    successes = 0
    for seed in range(FEW):
        faucets[0].reset(seed)
        done = False
        while not done:
            result = faucets[0].step(random_actions(faucets[0].action_low, faucets[0].action_high, rng=rng)[0])
            done = result.done
        successes += result.success
    assert successes == 0


def test_the_robot_measures_its_hand_and_gripper_and_nothing_of_the_scene():
    open_, close = (MetaWorldEnv(name) for name in ("drawer-open", "drawer-close"))
    assert isinstance(open_, Proprioceptive)
    with pytest.raises(SimulationError, match="robot_state must come after reset"):
        open_.robot_state()
    states = []
    for env in (open_, close):
        env.reset(0)
        env.step(np.array([1.0, 0.0, 0.0, 1.0]))
        states.append(env.robot_state())
        data = env._simulator.data
        claws = data.body("rightclaw").xpos - data.body("leftclaw").xpos
        np.testing.assert_allclose(states[-1][:3], data.body("hand").xpos, atol=1e-9)
        np.testing.assert_allclose(states[-1][3], np.linalg.norm(claws) / 0.1, atol=1e-9)
        kept = states[-1].copy()
        states[-1][:] = 0
        np.testing.assert_array_equal(robot_state(env), kept)
        env.close()


def test_the_state_of_the_robot_does_not_tell_where_the_object_is():
    env = MetaWorldEnv("drawer-open")
    states = []
    for seed in range(3):  # the drawer moves, the arm does not
        env.reset(seed)
        states.append(env.robot_state())
    env.close()
    np.testing.assert_allclose(states, np.tile(states[0], (3, 1)), atol=1e-6)


def test_demonstrations_hold_the_state_before_each_decision(reach):
    episode = collect_episode(reach, MetaWorldExpert(reach), 0, render=False)
    reach.reset(0)
    for action, state in zip(episode.actions, episode.states, strict=True):
        np.testing.assert_allclose(reach.robot_state(), state, atol=1e-5)
        reach.step(action)
    assert episode.states.dtype == np.float32
