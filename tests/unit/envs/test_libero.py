"""The LIBERO adapter, on the real benchmark; skipped where it is not installed (it is too big for the test extra)."""

import os
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest

if find_spec("libero") is None:
    pytest.skip("pip install 'vla-kit[libero]' runs these tests", allow_module_level=True)

from vla_kit.embodiment import PRESETS
from vla_kit.envs import PolicyEnv, SimulationError, libero, make_env, robot_state
from vla_kit.envs._mujoco import mujoco
from vla_kit.envs.libero import LiberoEnv, libero_initial_state
from vla_kit.envs.seeds import EVALUATION_SEEDS_FROM
from vla_kit.errors import SettingError, ShapeError

OFFICIAL = EVALUATION_SEEDS_FROM


@pytest.fixture(scope="module")
def env():
    env = LiberoEnv("object-0")
    yield env
    env.close()


def act(env, *, steps, **channels):
    """Repeat one action; the rest of its channels is still and open."""
    names = ["x", "y", "z", "rx", "ry", "rz", "gripper"]
    action = np.array([channels.get(name, -1.0 if name == "gripper" else 0.0) for name in names])
    for _ in range(steps):
        env.step(action)


def objects(env):
    """Positions of everything that can move, robot left out."""
    return env._data.qpos[9:].copy()


def test_it_is_a_policy_env(env):
    assert isinstance(env, PolicyEnv)
    assert (env.task, env.embodiment, env.rate_hz, env.max_steps) == ("libero/object-0", "libero_panda", 20.0, 280)
    assert env.rate_hz == PRESETS["libero_panda"].rate_hz
    assert env.action_low.tolist() == [-1.0] * 7
    assert env.action_high.tolist() == [1.0] * 7
    assert env.view_tags == ("cam_high", "cam_left_wrist")


def test_instruction_is_the_benchmarks(env):
    assert env.reset(10_000) == env.instruction == "pick up the alphabet soup and place it in the basket"
    env.instruction = "pick up the milk"
    assert env.instruction == "pick up the milk"


def test_evaluation_seeds_begin_at_the_official_initial_states(env, monkeypatch):
    monkeypatch.setattr(libero, "_SETTLING_STEPS", 0)
    states = env._initial_states()
    assert states.shape[0] == 50
    for index in (0, 3, 49):
        env.reset(OFFICIAL + index)
        np.testing.assert_allclose(env._simulator.get_sim_state()[1:], states[index][1:], atol=1e-9)


def test_all_other_seeds_begin_anew(env, monkeypatch):
    monkeypatch.setattr(libero, "_SETTLING_STEPS", 0)
    official = env._initial_states()[:, 1 + 9 : 1 + env._model.nq]
    for seed in (10_000, OFFICIAL - 1, OFFICIAL + 50):
        env.reset(seed)
        assert np.abs(official - objects(env)).max(axis=1).min() > 0.001


def test_the_arm_starts_as_scattered_as_in_the_initial_states(env):
    env.reset(10_000)
    official = env._initial_states()[:, 1:8]
    env._data.qpos[:7] = official.mean(axis=0)
    ours = np.stack([env._fresh_state(seed)[1:8] for seed in range(200)])
    np.testing.assert_allclose(ours.std(axis=0), official.std(axis=0), rtol=0.35)
    np.testing.assert_array_equal(ours[3], env._fresh_state(3)[1:8])


def test_which_seeds_are_official():
    assert [libero_initial_state(OFFICIAL + index) for index in (-1, 0, 49, 50)] == [None, 0, 49, None]
    assert libero_initial_state(10_000) is None


@pytest.mark.parametrize("seed", [10_001, OFFICIAL + 2])
def test_equal_seeds_give_equal_scenes_and_pictures_whatever_came_before(env, seed):
    env.reset(seed)
    first, pictures = env._data.qpos.copy(), env.look()
    act(env, steps=5, x=1.0, z=-1.0)
    env.reset(seed + 1)
    assert np.abs(objects(env) - first[9:]).max() > 0.005
    env.reset(seed)
    np.testing.assert_array_equal(env._data.qpos, first)
    for tag, picture in env.look().items():
        np.testing.assert_array_equal(picture, pictures[tag])


def test_a_new_environment_gives_the_same_scene(env):
    env.reset(10_002)
    other = LiberoEnv("object-0")
    other.reset(10_002)
    np.testing.assert_array_equal(other._data.qpos, env._data.qpos)
    np.testing.assert_array_equal(other._model.body_pos, env._model.body_pos)
    other.close()


def test_everything_rests_when_an_episode_begins(env):
    env.reset(10_003)
    before = objects(env)
    act(env, steps=5)
    assert np.abs(objects(env) - before).max() < 0.01


@pytest.mark.parametrize(("channel", "axis"), [("x", 0), ("y", 1), ("z", 2)])
def test_one_unit_aims_five_centimetres_along_the_axes_of_the_world(env, channel, axis):
    env.reset(10_000)
    before = env.robot_state()[:3]
    act(env, steps=1, **{channel: 0.6})
    aim = env._simulator.robots[0].controller.goal_pos - before
    np.testing.assert_allclose(aim, 0.6 * 0.05 * np.eye(3)[axis], atol=1e-3)
    act(env, steps=10, **{channel: 0.6})
    moved = env.robot_state()[:3] - before
    assert moved[axis] > 0.05
    assert np.abs(np.delete(moved, axis)).max() < 0.02


def test_rotation_is_about_the_axes_of_the_world(env):
    env.reset(10_000)
    hand = env._data.body(env._simulator.robots[0].robot_model.eef_name)
    before = hand.xmat.reshape(3, 3).copy()
    act(env, steps=10, rz=0.4)
    turned = hand.xmat.reshape(3, 3) @ before.T
    angle = np.arctan2(turned[1, 0], turned[0, 0])
    assert angle > 0.2
    np.testing.assert_allclose(turned[2, 2], 1.0, atol=0.01)


def test_minus_one_opens_and_one_closes(env):
    env.reset(10_000)
    act(env, steps=10, gripper=1.0)
    closed = env.robot_state()[6] - env.robot_state()[7]
    act(env, steps=10, gripper=-1.0)
    opened = env.robot_state()[6] - env.robot_state()[7]
    assert closed < 0.01
    assert opened > 0.07


def test_actions_are_clipped(env):
    ends = []
    for reach in (1.0, 5.0):
        env.reset(10_000)
        act(env, steps=3, x=reach)
        ends.append(env.robot_state())
    np.testing.assert_array_equal(*ends)


def test_state_is_what_openpi_makes_of_the_observation(env):
    env.reset(10_004)
    act(env, steps=4, rx=0.5, rz=0.5, x=0.5)
    env._simulator._update_observables(force=True)
    seen = env._simulator.env._get_observations()
    x, y, z, w = seen["robot0_eef_quat"]
    turn = np.array([x, y, z]) * 2.0 * np.arccos(w) / np.sqrt(1.0 - w * w)  # openpi's _quat2axisangle
    expected = [*seen["robot0_eef_pos"], *turn, *seen["robot0_gripper_qpos"]]
    np.testing.assert_allclose(env.robot_state(), expected, atol=1e-7)


def test_state_has_the_channels_of_the_preset(env):
    env.reset(10_000)
    state = robot_state(env)
    assert state.shape == (PRESETS["libero_panda"].state_space.size,)
    state[:] = 7.0  # a copy
    assert np.abs(env.robot_state()).max() < 7.0


def test_axis_angle_keeps_the_sign_of_the_quaternion():
    half = np.sqrt(0.5)
    np.testing.assert_allclose(libero._axis_angle(half, np.array([half, 0, 0])), [np.pi / 2, 0, 0])
    np.testing.assert_allclose(libero._axis_angle(-half, np.array([-half, 0, 0])), [-3 * np.pi / 2, 0, 0])
    np.testing.assert_array_equal(libero._axis_angle(1.0, np.zeros(3)), np.zeros(3))


def project(env, camera, point):
    """Row and column of a point [m] in an upright square picture, by the pinhole model."""
    size = env.look()["cam_high"].shape[0]
    eye = env._data.camera(camera)
    x, y, z = eye.xmat.reshape(3, 3).T @ (point - eye.xpos)  # right, up, towards the viewer
    focal = 0.5 * size / np.tan(np.deg2rad(env._model.camera(camera).fovy[0]) / 2)
    return size / 2 - focal * y / -z, size / 2 + focal * x / -z


@pytest.mark.parametrize(("tag", "camera"), [("cam_high", "agentview"), ("cam_left_wrist", "robot0_eye_in_hand")])
def test_pictures_are_upright_and_not_mirrored(env, tag, camera):
    env.reset(10_000)
    name = env._simulator.obj_of_interest[0]
    joint = env._data.joint(env._simulator.env.objects_dict[name].joints[-1])
    joint.qpos[:3] = env.robot_state()[:3] + np.array([0.03, 0.05, -0.1])  # in sight of both, off the middle of both
    mujoco.mj_forward(env._model, env._data)
    row, column = project(env, camera, env._data.xpos[env._simulator.env.obj_body_id[name]])
    there = env.look()[tag].astype(int)
    joint.qpos[:3] = [5.0, 5.0, 0.5]
    mujoco.mj_forward(env._model, env._data)
    rows, columns = np.nonzero(np.abs(env.look()[tag] - there).sum(axis=2) > 60)
    assert rows.size > 20
    assert (rows.mean(), columns.mean()) == (pytest.approx(row, abs=8), pytest.approx(column, abs=8))
    assert max(abs(row - 47.5), abs(column - 47.5)) > 10  # a flip would be seen


def test_mirrored_pictures_exchange_left_and_right(env):
    env.reset(10_000)
    mirrored = LiberoEnv("object-0", mirrored=True)
    mirrored.reset(10_000)
    for tag, picture in mirrored.look().items():
        np.testing.assert_array_equal(picture, env.look()[tag][:, ::-1])
        assert picture.flags.c_contiguous
    mirrored.close()


def test_shadows_are_off_and_collision_shapes_hidden(env):
    assert env._model.vis.quality.shadowsize == env._model.vis.quality.offsamples == 0
    assert env._cameras._option.geomgroup[:2].tolist() == [0, 1]


def test_an_episode_ends_at_its_step_limit():
    env = LiberoEnv("spatial-0", image_size=32, max_steps=2)
    env.reset(10_000)
    assert [env.step(np.zeros(7)).done for _ in range(2)] == [False, True]
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        env.step(np.zeros(7))
    assert {picture.shape for picture in env.look().values()} == {(32, 32, 3)}
    env.close()
    env.close()
    with pytest.raises(SimulationError, match="look must come after reset"):
        env.look()
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        env.step(np.zeros(7))
    with pytest.raises(SimulationError, match="reset must come before close"):
        env.reset(10_000)


def test_success_is_the_benchmarks_own(env):
    env.reset(10_000)
    simulator = env._simulator.env
    soup, basket = env._simulator.obj_of_interest[:2]
    joint = env._data.joint(simulator.objects_dict[soup].joints[-1])
    joint.qpos[:3] = env._data.xpos[simulator.obj_body_id[basket]] + [0.0, 0.0, 0.1]
    joint.qvel[:] = 0.0
    result = env.step(np.zeros(7))
    for _ in range(20):
        if result.done:
            break
        result = env.step(np.zeros(7))
    assert result.success
    assert result.done


def test_an_unstable_simulation_ends_the_episode_unsolved(env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT where it runs
    env.reset(10_000)
    env._data.qvel[-1] = np.nan
    result = env.step(np.zeros(7))
    assert result.done
    assert not result.success
    env.reset(10_000)
    assert not env.step(np.zeros(7)).done


def test_resetting_leaves_numpys_generator_alone(env):
    np.random.seed(1)  # noqa: NPY002
    expected = np.random.rand(2)  # noqa: NPY002
    np.random.seed(1)  # noqa: NPY002
    env.reset(10_000)
    np.testing.assert_array_equal(np.random.rand(2), expected)  # noqa: NPY002


@pytest.mark.parametrize("action", [np.zeros(6), np.zeros((1, 7))])
def test_actions_have_seven_entries(env, action):
    env.reset(10_000)
    with pytest.raises(ShapeError, match=r"action must have the shape \(7,\)"):
        env.step(action)


def test_order_of_calls_is_checked():
    env = LiberoEnv("object-1")
    for call in (env.look, env.robot_state):
        with pytest.raises(SimulationError, match="must come after reset, got no episode"):
            call()
    with pytest.raises(SimulationError, match="step must come in a running episode"):
        env.step(np.zeros(7))
    env.close()


def test_settings_are_checked():
    with pytest.raises(SettingError, match="task of libero must be"):
        LiberoEnv("object-99")
    with pytest.raises(SettingError, match=r"max_steps must be >= 1, got 0\. The benchmark's is 280"):
        LiberoEnv("object-0", max_steps=0)


IMPORT = """
import logging, os, warnings
{first}  # brings warnings filters of numpy and others
def settings(): return dict(os.environ), list(logging.root.handlers), logging.root.level, list(warnings.filters)
before = settings()
import vla_kit.envs.libero
before[0].setdefault("MUJOCO_GL", "egl")  # ours, see mujoco_camera
for old, new in zip(before, settings()): assert old == new, (old, new)
"""


@pytest.mark.parametrize(
    "first", ["import vla_kit.envs.mujoco_camera", "import vla_kit.envs.metaworld, vla_kit.envs.aloha"]
)
def test_importing_says_nothing_asks_nothing_and_leaves_nothing(tmp_path, first):
    if "metaworld" in first and find_spec("metaworld") is None:
        pytest.skip("metaworld is not installed")
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.mkdir()
    temporary.mkdir()
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(temporary), "MPLCONFIGDIR": str(tmp_path / "mpl")}
    environment.pop("LIBERO_CONFIG_PATH", None)
    done = subprocess.run(
        [sys.executable, "-c", IMPORT.format(first=first)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=home,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout + done.stderr == ""
    assert list(home.iterdir()) == list(temporary.iterdir()) == []


def test_made_by_name():
    env = make_env("libero/goal-0", image_size=32)
    assert (env.task, env.max_steps) == ("libero/goal-0", 300)
    env.close()


@pytest.mark.slow
def test_pictures_equal_the_benchmarks_own_turned_upside_down(env):
    from vla_kit.envs._libero_import import ControlEnv
    from vla_kit.envs.libero_tasks import libero_file

    stock = ControlEnv(
        bddl_file_name=str(libero_file(env._task, folder="bddl_files", suffix=".bddl")),
        camera_heights=96,
        camera_widths=96,
    )
    env.reset(OFFICIAL)
    stock.seed(OFFICIAL)
    stock.reset()
    seen = stock.set_init_state(env._initial_states()[0])
    for _ in range(10):
        seen, *_ = stock.step([0.0] * 6 + [-1.0])
    for tag, key in (("cam_high", "agentview_image"), ("cam_left_wrist", "robot0_eye_in_hand_image")):
        ours = env.look()[tag].astype(int)
        upright = np.abs(seen[key][::-1] - ours).mean()
        assert upright < 15  # shadows and smooth edges are all that differ
        assert min(np.abs(seen[key] - ours).mean(), np.abs(seen[key][::-1, ::-1] - ours).mean()) > 2 * upright
    stock.close()
