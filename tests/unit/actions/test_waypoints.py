"""Waypoints: hand-computed paths, an independent reference of homogeneous matrices, round trips, stops, VLN-CE."""

import math

import numpy as np
import pytest
import torch

from vla_kit.actions import (
    DiscreteAction,
    StopRule,
    convert_waypoints,
    discrete_to_waypoints,
    integrate_waypoints,
    waypoints_between,
    waypoints_to_discrete,
    wrap_angle,
)
from vla_kit.errors import SettingError, ShapeError

RIGHT_ANGLE = math.pi / 2


def _matrix(pose):
    x, y, theta = (float(value) for value in pose)
    return np.array([[math.cos(theta), -math.sin(theta), x], [math.sin(theta), math.cos(theta), y], [0, 0, 1]])


def _chunks(count=3, steps=8, seed=0):
    drawn = torch.rand(count, steps, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (drawn - 0.5) * torch.tensor([1.0, 1.0, 3.0])


def test_a_square_by_hand():
    side = torch.tensor([[2.0, 0.0, RIGHT_ANGLE]] * 4, dtype=torch.float64)
    poses = integrate_waypoints(side, torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64))
    expected = [[3, 0, RIGHT_ANGLE], [3, 2, math.pi], [1, 2, -RIGHT_ANGLE], [1, 0, 0]]
    torch.testing.assert_close(poses, torch.tensor(expected, dtype=torch.float64), atol=1e-12, rtol=0)


def test_dy_is_to_the_left_of_the_frame_it_is_measured_from():
    facing_north = torch.tensor([0.0, 0.0, RIGHT_ANGLE])
    pose = integrate_waypoints(torch.tensor([[0.0, 1.0, 0.0]]), facing_north)[0]
    torch.testing.assert_close(pose, torch.tensor([-1.0, 0.0, RIGHT_ANGLE]), atol=1e-6, rtol=0)


def test_readings_by_hand():
    consecutive = torch.tensor([[1.0, 0.0, RIGHT_ANGLE], [2.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    from_start = torch.tensor([[1.0, 0.0, RIGHT_ANGLE], [1.0, 2.0, RIGHT_ANGLE], [0.0, 2.0, RIGHT_ANGLE + 1.0]])
    torch.testing.assert_close(
        convert_waypoints(consecutive, "consecutive", "from_start"), from_start, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        convert_waypoints(from_start, "from_start", "consecutive"), consecutive, atol=1e-6, rtol=0
    )


def test_integration_equals_products_of_matrices():
    start = torch.tensor([0.3, -2.0, 2.5], dtype=torch.float64)
    for chunk in _chunks():
        poses = integrate_waypoints(chunk, start)
        reached = _matrix(start)
        for waypoint, pose in zip(chunk, poses, strict=True):
            reached = reached @ _matrix(waypoint)
            np.testing.assert_allclose(_matrix(pose), reached, atol=1e-12)
        relative = waypoints_between(poses, start, reading="from_start")
        for waypoint, pose in zip(relative, poses, strict=True):
            np.testing.assert_allclose(_matrix(start) @ _matrix(waypoint), _matrix(pose), atol=1e-12)


@pytest.mark.parametrize("reading", ["consecutive", "from_start"])
def test_poses_and_waypoints_are_inverse(reading):
    chunks = _chunks()
    start = torch.tensor([[0.0, 0.0, 0.0], [5.0, -1.0, 3.1], [-2.0, 0.5, -3.1]], dtype=torch.float64)
    poses = integrate_waypoints(chunks, start, reading=reading)
    torch.testing.assert_close(waypoints_between(poses, start, reading=reading), chunks, atol=1e-12, rtol=0)


def test_conversion_there_and_back_is_exact_also_in_float32():
    chunks = _chunks().float()
    there = convert_waypoints(chunks, "consecutive", "from_start")
    assert there.dtype == torch.float32
    torch.testing.assert_close(convert_waypoints(there, "from_start", "consecutive"), chunks, atol=2e-6, rtol=0)
    same = convert_waypoints(chunks, "consecutive", "consecutive")
    assert torch.equal(same, chunks)
    assert same.data_ptr() != chunks.data_ptr()


def test_angles_turn_over_at_half_a_turn():
    given = torch.tensor([math.pi, -math.pi, 1.25 * math.pi, 7.0, -7.0, 0.1], dtype=torch.float64)
    wrapped = wrap_angle(given)
    expected = [math.pi, math.pi, -0.75 * math.pi, 7 - 2 * math.pi, 2 * math.pi - 7, 0.1]
    np.testing.assert_allclose(wrapped.numpy(), expected, atol=1e-12)
    assert wrap_angle(torch.tensor([0.1])).item() == torch.tensor(0.1).item()
    assert wrap_angle(torch.tensor(float("nan"))).isnan()
    nearly_round = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, -3.0]], dtype=torch.float64)
    steps = waypoints_between(nearly_round, torch.zeros(3, dtype=torch.float64))
    assert steps[1, 2].item() == pytest.approx(2 * math.pi - 6)


def test_an_empty_chunk_stays_empty():
    empty = torch.zeros(0, 3)
    for reading in ("consecutive", "from_start"):
        assert integrate_waypoints(empty, torch.zeros(3), reading=reading).shape == (0, 3)
        assert waypoints_between(empty, torch.zeros(3), reading=reading).shape == (0, 3)
    assert not StopRule()(empty)
    assert waypoints_to_discrete(empty) == []


def test_a_padded_step_changes_no_step_before_it():
    chunk = _chunks(1)[0]
    poisoned = chunk.clone()
    poisoned[5:] = float("nan")
    clean, touched = (convert_waypoints(one, "consecutive", "from_start") for one in (chunk, poisoned))
    assert torch.equal(clean[:5], touched[:5])
    rule = StopRule(distance_m=0.1, angle_rad=0.1)
    still = torch.zeros(4, 3)
    still[2:] = float("nan")
    assert rule(still, mask=torch.tensor([True, True, False, False]))
    assert not rule(still)
    assert not rule(still, mask=torch.zeros(4, dtype=torch.bool))


def test_the_stop_rule_sums_the_way_not_the_displacement():
    rule = StopRule(distance_m=0.1, angle_rad=0.2)
    circle = torch.tensor([[0.1, 0.0, RIGHT_ANGLE]] * 4)
    glance = torch.tensor([[0.0, 0.0, 0.15], [0.0, 0.0, -0.15]])
    edge = torch.tensor([[0.05, 0.0, 0.1]] * 2, dtype=torch.float64)
    assert not rule(circle)
    assert not rule(glance)
    assert rule(edge)
    assert not rule(edge * 1.001)
    assert rule(torch.stack([edge, edge * 2])).tolist() == [True, False]
    far = convert_waypoints(circle, "consecutive", "from_start")
    assert not rule(far, reading="from_start")
    assert rule(torch.tensor([[0.05, 0.0, 0.0]] * 8), reading="from_start")  # once 5 cm, then nothing
    assert not rule(torch.tensor([[0.05, 0.0, 0.0]] * 8))


def test_discrete_actions_become_waypoints_and_come_back():
    generator = np.random.default_rng(0)
    for _ in range(20):
        actions = [DiscreteAction(int(one)) for one in generator.integers(1, 4, size=12)]
        waypoints = discrete_to_waypoints(actions)
        assert waypoints_to_discrete(waypoints) == actions
        again = convert_waypoints(waypoints, "consecutive", "from_start")
        assert waypoints_to_discrete(again, reading="from_start") == actions
    assert waypoints_to_discrete(discrete_to_waypoints([DiscreteAction.STOP])) == [DiscreteAction.STOP]


def test_a_diagonal_by_hand():
    """One metre ahead and one to the left: three turns of 15 degrees, then six steps (1.414 m is 5.66 of them)."""
    actions = waypoints_to_discrete(torch.tensor([[1.0, 1.0, RIGHT_ANGLE / 2]]))
    assert [*map(int, actions)] == [2, 2, 2, 1, 1, 1, 1, 1, 1]


def test_rounding_does_not_add_up():
    steps = torch.tensor([[0.1, 0.0, 0.0]] * 20)  # 2 m in pieces that are less than half a step each
    actions = waypoints_to_discrete(steps)
    assert actions == [DiscreteAction.MOVE_FORWARD] * 8
    turns = torch.tensor([[0.0, 0.0, math.radians(6)]] * 10)
    assert waypoints_to_discrete(turns) == [DiscreteAction.TURN_LEFT] * 4


def test_discrete_paths_stay_within_a_step_of_the_waypoints():
    for chunk in _chunks(5, steps=16, seed=3):
        chunk = chunk * torch.tensor([0.8, 0.3, 0.4])
        target = integrate_waypoints(chunk, torch.zeros(3, dtype=torch.float64))[-1]
        reached = integrate_waypoints(
            discrete_to_waypoints(waypoints_to_discrete(chunk)), torch.zeros(3, dtype=torch.float64)
        )[-1]
        assert (reached[:2] - target[:2]).norm() <= 0.25
        assert abs(wrap_angle(reached[2] - target[2])) <= math.radians(7.5) + 1e-9


def test_what_does_not_fit_is_refused(shape_hook_off):
    with pytest.raises(SettingError, match=r"reading must be one of \('consecutive', 'from_start'\), got 'each'"):
        integrate_waypoints(torch.zeros(2, 3), torch.zeros(3), reading="each")
    with pytest.raises(ShapeError, match=r"must have the shape \(..., step, 3\).*got \(2, 64\) and \(3,\)"):
        integrate_waypoints(torch.zeros(2, 64), torch.zeros(3))
    with pytest.raises(ShapeError, match=r"got \(4, 2, 3\) and \(3,\)"):
        waypoints_between(torch.zeros(4, 2, 3), torch.zeros(3))
    with pytest.raises(SettingError, match="actions must end at the first stop"):
        discrete_to_waypoints([0, 1])
    with pytest.raises(SettingError, match=r"actions must be among \[0, 1, 2, 3\], got \[7\]"):
        discrete_to_waypoints([1, 7])
    with pytest.raises(SettingError, match="step_m must be above 0"):
        discrete_to_waypoints([1], step_m=0.0)
    with pytest.raises(SettingError, match="waypoints must be finite"):
        waypoints_to_discrete(torch.tensor([[0.0, float("nan"), 0.0]]))
    with pytest.raises(ShapeError, match=r"waypoints must have the shape \(step, 3\)"):
        waypoints_to_discrete(torch.zeros(2, 4, 3))
    with pytest.raises(SettingError, match="distance_m must be at least 0 and finite, got -1"):
        StopRule(distance_m=-1)
