import numpy as np
import pytest

pytest.importorskip("ruckig")
pytest.importorskip("scipy")

from vla_kit.data.synthesis.timing import time_path

LIMITS = {"max_velocity": np.array([1.0, 2.0]), "max_acceleration": np.array([4.0, 4.0])}


def test_a_long_straight_path_takes_the_time_of_its_slowest_joint():
    positions, velocities = time_path(np.array([[0.0, 0.0], [10.0, 1.0]]), **LIMITS)
    cruise = 0.98  # of the limit 1 rad/s
    seconds = 10 / cruise + cruise / (0.98 * 4) + 0.1  # way, ramps, and the time in which acceleration rises
    assert len(positions) == pytest.approx(seconds * 50, abs=1)
    np.testing.assert_allclose(positions[:, 1], positions[:, 0] / 10, atol=1e-9)
    assert velocities[:, 0].max() == pytest.approx(cruise, rel=1e-3)


def test_a_curved_path_ends_at_rest_in_its_last_posture_and_keeps_its_limits():
    rng = np.random.default_rng(0)
    for _ in range(20):
        postures = np.cumsum(rng.normal(size=(6, 2)) * 0.2, axis=0)
        positions, velocities = time_path(postures, **LIMITS)
        rows = np.concatenate([postures[:1], positions, positions[-1:]])
        assert (np.abs(np.diff(rows, axis=0)) * 50 <= LIMITS["max_velocity"] + 1e-9).all()
        assert (np.abs(np.diff(rows, n=2, axis=0)) * 2500 <= LIMITS["max_acceleration"] + 1e-6).all()
        np.testing.assert_array_equal(positions[-1], postures[-1])
        assert (velocities[-1] == 0).all()
        nearest = [np.linalg.norm(rows - posture, axis=1).min() for posture in postures]
        assert max(nearest) < 0.03  # passes by between two rows


def test_the_tool_is_not_faster_than_asked():
    slow, _ = time_path(np.array([[0.0, 0.0], [0.5, 0.5]]), length_m=0.5, max_speed_m_s=0.1, **LIMITS)
    assert len(slow) >= 5 * 50


def test_staying_takes_no_time():
    positions, velocities = time_path(np.ones((3, 2)), **LIMITS)
    assert positions.shape == velocities.shape == (0, 2)
