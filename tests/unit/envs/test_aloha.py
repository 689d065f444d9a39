import numpy as np
import pytest

pytest.importorskip("vla_kit.envs.aloha", exc_type=ImportError)

from gym_aloha.tasks import sim

from vla_kit.envs import PolicyEnv, Proprioceptive, SimulationError, random_actions
from vla_kit.envs.aloha import AlohaEnv
from vla_kit.errors import SettingError, ShapeError


@pytest.fixture(scope="module")
def env():
    env = AlohaEnv(image_size=48, max_steps=3)
    yield env
    env.close()


def test_it_is_a_policy_env_with_the_documented_numbers(env):
    assert isinstance(env, PolicyEnv)
    assert (env.task, env.embodiment, env.view_tags) == ("aloha/transfer-cube", "aloha_transfer", ("cam_high",))
    assert (env.rate_hz, env.max_steps) == (12.5, 3)
    assert env.action_low.shape == env.action_high.shape == (14,)
    assert (env.action_low[[6, 13]] == 0).all()
    assert (env.action_high[[6, 13]] == 1).all()
    assert (env.action_low[:6] < -1).all()


def test_gym_aloha_itself_is_left_as_it_was(env):
    env.reset(0)
    assert sim.BOX_POSE == [None]
    assert sim.BimanualViperXTask.get_observation.__module__ == "gym_aloha.tasks.sim"


def test_the_seed_places_the_cube_where_gym_aloha_does(env):
    from gym_aloha.utils import sample_box_pose

    for seed in (0, 1, 2**32 - 1):
        env.reset(seed)
        np.testing.assert_array_equal(env._physics.data.qpos[-7:], sample_box_pose(seed))


def test_a_seed_gives_the_same_pictures_whatever_came_before(env):
    rng = np.random.default_rng(0)
    actions = env._start + 0.1 * rng.normal(size=(2, 14))
    pictures = []
    for other in (5, 6):
        env.reset(other)
        env.step(actions[0] * 0.5)
        instruction = env.reset(3)
        for action in actions:
            env.step(action)
        pictures.append((instruction, env.look()["cam_high"]))
    assert pictures[0][0] == pictures[1][0]
    np.testing.assert_array_equal(pictures[0][1], pictures[1][1])


def test_targets_move_on_a_straight_line(env, monkeypatch):
    env.reset(0)
    sent = []
    step = env._simulator.step
    monkeypatch.setattr(env._simulator, "step", lambda target: (sent.append(target.copy()), step(target))[1])
    first, second = env._start.copy(), env._start.copy()
    first[0], second[0] = 0.4, -0.4
    env.step(first)
    env.step(second)
    assert np.array(sent)[:, 0].round(6).tolist() == [0.1, 0.2, 0.3, 0.4, 0.2, 0.0, -0.2, -0.4]
    np.testing.assert_allclose(np.array(sent)[:, 1:], np.tile(env._start[1:], (8, 1)), atol=1e-12)


def test_holding_the_start_keeps_the_arms_still(env):
    env.reset(0)
    before = np.array(env._physics.data.qpos[:16])
    env.step(env._start)
    np.testing.assert_allclose(env._physics.data.qpos[:16], before, atol=0.02)


def test_actions_are_clipped_to_what_the_motors_accept(env):
    env.reset(0)
    env.step(np.full(14, 99.0))
    np.testing.assert_array_equal(env._target, env.action_high)


def test_random_actions_stay_in_range_and_fail(env):
    env.reset(0)
    rng = np.random.default_rng(0)
    results = [env.step(random_actions(env.action_low, env.action_high, rng=rng)[0]) for _ in range(3)]
    assert [result.done for result in results] == [False, False, True]
    assert not results[-1].success
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        env.step(env._start)


def test_an_unstable_simulation_is_over_and_unsolved(env, monkeypatch):
    from dm_control.rl.control import PhysicsError

    def unstable(_):
        raise PhysicsError("mjWARN_BADQACC")

    env.reset(0)
    monkeypatch.setattr(env._simulator, "step", unstable)
    result = env.step(env._start)
    assert result.done
    assert not result.success


def test_the_instruction_may_be_set(env):
    drawn = env.reset(0)
    env.instruction = "wait"
    assert env.instruction == "wait"
    assert env.reset(0) == drawn


def test_wrong_actions_and_seeds_are_named(env):
    env.reset(0)
    with pytest.raises(ShapeError, match=r"action must have the shape \(14,\), got \(4,\)"):
        env.step(np.zeros(4))
    with pytest.raises(SettingError, match="action must be finite"):
        env.step(np.full(14, np.inf))
    with pytest.raises(SettingError, match="seed must lie in"):
        env.reset(2**32)


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"frame_skip": 0}, "frame_skip must be >= 1, got 0"), ({"max_steps": 0}, "max_steps must be >= 1, got 0")],
)
def test_wrong_settings_are_named(settings, text):
    with pytest.raises(SettingError, match=text):
        AlohaEnv(**settings)


def test_nothing_is_seen_before_the_first_reset_or_after_close():
    env = AlohaEnv(image_size=16)
    with pytest.raises(SimulationError, match="look must come after reset"):
        env.look()
    env.reset(0)
    env.close()
    with pytest.raises(SimulationError, match="look must come after reset"):
        env.look()


def test_the_robot_measures_its_arms_in_the_order_of_an_action_and_nothing_of_the_cube(env):
    assert isinstance(env, Proprioceptive)
    states = []
    for seed in (0, 1):  # the cube moves, the arms do not
        env.reset(seed)
        states.append(env.robot_state())
    np.testing.assert_array_equal(*states)
    np.testing.assert_allclose(states[0], env._start, atol=0.02)
    target = env._start.copy()
    target[[0, 6]] = 0.1, 0.8
    for _ in range(2):
        env.step(target)
    moved = env.robot_state()
    assert abs(moved[0] - 0.1) < 0.05
    assert moved[6] > states[0][6] + 0.3  # the gripper is slow
    np.testing.assert_allclose(moved[7:], states[0][7:], atol=0.02)


def test_the_robot_measures_nothing_before_the_first_reset():
    env = AlohaEnv(image_size=16)
    with pytest.raises(SimulationError, match="robot_state must come after reset"):
        env.robot_state()
    env.close()
