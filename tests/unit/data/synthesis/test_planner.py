import numpy as np
import pytest

pytest.importorskip("mujoco")
pytest.importorskip("ruckig")

from product_of_exponentials import tool_poses

from vla_kit.data.synthesis.arm import arm_names, find_arm
from vla_kit.data.synthesis.arm_model import ArmModel
from vla_kit.data.synthesis.planner import plan
from vla_kit.data.synthesis.template_names import TEMPLATES
from vla_kit.errors import MissingExtraError

RATE_HZ = 50.0


@pytest.fixture(scope="module", params=arm_names())
def model(request):
    try:
        return ArmModel(find_arm(request.param))
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def trajectories(model):
    return {template: plan(model, template, number=number) for number, template in enumerate(TEMPLATES)}


def test_joints_stay_within_their_limits_of_position_velocity_and_acceleration(model, trajectories):
    for trajectory in trajectories.values():
        position = trajectory.position.astype(np.float64)
        velocity = np.diff(position, axis=0) * RATE_HZ
        acceleration = np.diff(position, n=2, axis=0) * RATE_HZ**2
        assert (position >= model.lower - 1e-6).all()
        assert (position <= model.upper + 1e-6).all()
        assert (np.abs(velocity) <= model.max_velocity + 1e-4).all()
        assert (np.abs(acceleration) <= model.max_acceleration + 1e-2).all()  # float32 positions, squared rate


def test_written_velocity_is_the_derivative_of_position(trajectories):
    for trajectory in trajectories.values():
        between = np.diff(trajectory.position.astype(np.float64), axis=0) * RATE_HZ
        mean = (trajectory.velocity[1:] + trajectory.velocity[:-1]) / 2
        assert np.abs(between - mean).max() < 0.05
        assert np.abs(trajectory.velocity[[0, -1]]).max() == 0


def test_tool_poses_are_those_of_an_independent_kinematics(model, trajectories):
    for trajectory in trajectories.values():
        positions, rotations = tool_poses(model.arm, trajectory.position.astype(np.float64))
        np.testing.assert_allclose(trajectory.eef_pose[:, :3], positions, atol=1e-4)
        x, y, z, w = trajectory.eef_pose[:, 3:].astype(np.float64).T
        np.testing.assert_allclose(rotations[:, 2, 2], 1 - 2 * (x**2 + y**2), atol=1e-4)
        np.testing.assert_allclose(rotations[:, 1, 0], 2 * (x * y + w * z), atol=1e-4)
        np.testing.assert_allclose(rotations[:, 0, 2], 2 * (x * z + w * y), atol=1e-4)


def test_no_step_touches_anything(model, trajectories):
    assert not any(model.collides(joints) for planned in trajectories.values() for joints in planned.position)


def test_a_posture_inside_the_table_or_the_arm_itself_is_a_collision(model):
    below = model.solve(np.array([np.mean(model.arm.radius_m), 0.0, 0.02]), down(model.home_yaw), near=model.home)
    assert below is not None
    sunk = model.solve(np.array([np.mean(model.arm.radius_m), 0.0, -0.05]), down(model.home_yaw), near=below)
    assert sunk is not None
    assert model.collides(sunk)
    assert not model.collides(model.home)


def test_an_arm_folded_into_itself_is_a_collision(model):
    rng = np.random.default_rng(0)
    high = list(rng.uniform(model.lower, model.upper, size=(400, len(model.lower))))
    touching = [joints for joints in high if model.collides(joints) and not model.touches_table()]
    assert 0 < len(touching) < len(high)


def test_a_pose_out_of_reach_is_not_solved(model):
    assert model.solve(np.array([5.0, 0.0, 0.2]), down(0.0), near=model.home) is None


def test_a_push_is_straight_and_as_long_as_its_sentence_says(model, trajectories):
    trajectory = trajectories["push"]
    pushing = trajectory.eef_pose[trajectory.part == 1, :2].astype(np.float64)
    way = pushing[-1] - pushing[0]
    line = way / np.linalg.norm(way)
    aside = pushing @ np.array([-line[1], line[0]])
    assert np.ptp(aside) < 2e-3
    centimetres = int(trajectory.instruction.split(" cm ")[0].rsplit(" ", 1)[-1])
    assert np.linalg.norm(way) == pytest.approx(centimetres / 100 + 0.02, abs=4e-3)  # begins 2 cm behind the object


def test_the_gripper_stays_between_closed_and_open_and_actions_look_one_step_ahead(trajectories):
    for trajectory in trajectories.values():
        assert trajectory.gripper.min() >= 0
        assert trajectory.gripper.max() <= 1
        np.testing.assert_array_equal(trajectory.action[:-1, :-1], trajectory.position[1:])
        np.testing.assert_array_equal(trajectory.action[:-1, -1], trajectory.gripper[1:])
        assert trajectory.part.max() == len(trajectory.parts) - 1
        assert (np.diff(trajectory.part) >= 0).all()


def test_a_number_and_a_seed_make_one_trajectory(model, trajectories):
    again = plan(ArmModel(model.arm), "push", number=TEMPLATES.index("push"))
    np.testing.assert_array_equal(again.position, trajectories["push"].position)
    assert again.instruction == trajectories["push"].instruction
    other = plan(model, "push", number=TEMPLATES.index("push"), seed=1)
    assert other.position.shape != again.position.shape or (other.position != again.position).any()


def down(yaw):
    cosine, sine = np.cos(yaw), np.sin(yaw)
    return np.array([[cosine, sine, 0.0], [sine, -cosine, 0.0], [0.0, 0.0, -1.0]])
