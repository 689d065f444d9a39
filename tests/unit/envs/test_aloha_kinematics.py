import numpy as np
import pytest

pytest.importorskip("vla_kit.envs.aloha", exc_type=ImportError)
Rotation = pytest.importorskip("scipy.spatial.transform").Rotation

from vla_kit.envs.aloha import AlohaEnv  # noqa: E402
from vla_kit.envs.aloha_kinematics import ArmKinematics, orientation  # noqa: E402
from vla_kit.errors import SettingError  # noqa: E402


@pytest.fixture(scope="module")
def env():
    env = AlohaEnv()
    env.reset(0)
    yield env
    env.close()


def to_scipy(quaternion):
    return Rotation.from_quat(quaternion, scalar_first=True)


def test_orientation_composes_about_the_moving_axes_as_scipy_does():
    ours = to_scipy(orientation(yaw=2.0, pitch=0.7, roll=-0.4))
    theirs = Rotation.from_euler("ZYX", [2.0, 0.7, -0.4])
    np.testing.assert_allclose(ours.as_matrix(), theirs.as_matrix(), atol=1e-12)


def test_positive_pitch_points_down():
    forward = to_scipy(orientation(yaw=0.0, pitch=np.deg2rad(30.0), roll=1.0)).as_matrix()[:, 0]
    np.testing.assert_allclose(forward, [np.sqrt(3) / 2, 0.0, -0.5], atol=1e-12)


@pytest.mark.parametrize(("side", "waist"), [("left", -0.469), ("right", 0.469)])
def test_the_fingertips_lie_before_the_waist(env, side, waist):
    arm = ArmKinematics(env._physics.model.ptr, side=side)
    point, facing = arm.pose(np.array(env._physics.data.qpos))
    np.testing.assert_allclose(point[1], 0.5, atol=1e-3)
    assert abs(point[0]) < abs(waist)
    np.testing.assert_allclose(to_scipy(facing).as_matrix()[0, 0], -np.sign(waist), atol=0.05)


@pytest.mark.parametrize("side", ["left", "right"])
def test_solve_inverts_pose(env, side):
    arm = ArmKinematics(env._physics.model.ptr, side=side)
    start = np.array(env._physics.data.qpos)
    wanted = start.copy()
    wanted[arm.joints] += [0.3, 0.2, -0.2, 0.0, 0.25, 0.4]
    point, facing = arm.pose(wanted)
    pitch = arm.pitch(wanted)
    assert pitch == pytest.approx(-np.arcsin(to_scipy(facing).as_matrix()[2, 0]))
    solved = arm.solve(start, point=point, pitch=pitch, roll=0.4, iterations=60)
    np.testing.assert_allclose(arm.pose(solved)[0], point, atol=3e-4)
    np.testing.assert_allclose(solved[arm.joints], wanted[arm.joints], atol=2e-3)


def test_solve_moves_its_own_arm_only_and_not_the_simulation(env):
    arm = ArmKinematics(env._physics.model.ptr, side="left")
    start = np.array(env._physics.data.qpos)
    solved = arm.solve(start, point=np.array([0.0, 0.5, 0.25]), pitch=0.25, roll=0.0)
    assert (solved[arm.joints] != start[arm.joints]).any()
    np.testing.assert_array_equal(np.delete(solved, np.r_[arm.joints]), np.delete(start, np.r_[arm.joints]))
    np.testing.assert_array_equal(env._physics.data.qpos, start)


def test_near_goals_have_near_joints_though_the_wrist_passes_zero(env):
    arm = ArmKinematics(env._physics.model.ptr, side="right")
    positions = np.array(env._physics.data.qpos)
    solutions = []
    for pitch in np.deg2rad(np.arange(0.0, 71.0, 5.0)):
        positions = arm.solve(positions, point=np.array([0.1, 0.42, 0.12]), pitch=float(pitch), roll=0.0)
        solutions.append(positions[arm.joints])
    wrist = np.array(solutions)[:, 4]
    assert wrist.min() < 0 < wrist.max()
    assert np.abs(np.diff(solutions, axis=0)).max() < 0.3
    assert not np.array(solutions)[:, 3].any()


def test_what_is_out_of_reach_ends_inside_the_joint_limits(env):
    model = env._physics.model.ptr
    arm = ArmKinematics(model, side="right")
    solved = arm.solve(np.array(env._physics.data.qpos), point=np.array([9.0, 9.0, 9.0]), pitch=0.0, roll=0.0)
    low, high = model.jnt_range[8:14].T
    assert (solved[arm.joints] >= low).all()
    assert (solved[arm.joints] <= high).all()


def test_there_are_two_sides(env):
    with pytest.raises(SettingError, match="side must be 'left' or 'right', got 'middle'"):
        ArmKinematics(env._physics.model.ptr, side="middle")
