import numpy as np
import pytest

from vla_kit.actions import StopRule
from vla_kit.errors import SettingError, ShapeError
from vla_kit.policy import WaypointExecutor, WaypointPolicy

QUARTER = np.pi / 2


class Drawn:
    """Answers with given chunks and remembers what it was asked."""

    def __init__(self, chunks):
        self.chunks, self.asked = chunks, []

    def act(self, observations, *, generator):
        self.asked.append((observations, generator))
        return self.chunks


def walk(pose, waypoints):
    """Poses along waypoints that are each measured from the one before, by hand."""
    x, y, heading = pose
    for dx, dy, turn in waypoints:
        x, y = x + dx * np.cos(heading) - dy * np.sin(heading), y + dx * np.sin(heading) + dy * np.cos(heading)
        heading += turn
    return np.array([x, y, heading])


def test_a_window_of_a_chunk_that_is_measured_from_the_start():
    """Forward with a quarter turn, then 2 m on: from the start (1, 0) and (1, 2)."""
    executor = WaypointExecutor(replan_every=2, reading="from_start")
    executor.give(np.array([[1.0, 0.0, QUARTER], [1.0, 2.0, QUARTER], [9.0, 9.0, 0.0]]))
    taken = [executor.next(), executor.next()]
    np.testing.assert_allclose(taken, [[1, 0, QUARTER], [2, 0, 0]], atol=1e-12)
    assert executor.needs_chunk
    np.testing.assert_allclose(walk([0, 0, 0], taken)[:2], [1, 2], atol=1e-12)
    with pytest.raises(SettingError, match="next must come after give"):
        executor.next()


def test_consecutive_waypoints_are_handed_on():
    chunk = np.array([[0.3, 0.1, 0.2]] * 8)
    executor = WaypointExecutor(replan_every=3)
    executor.give(chunk)
    np.testing.assert_allclose([executor.next() for _ in range(3)], chunk[:3], atol=1e-12)
    assert executor.needs_chunk


def test_a_chunk_that_says_stop_ends_the_motion_until_a_reset():
    executor = WaypointExecutor(replan_every=2, stop=StopRule(distance_m=0.1, angle_rad=0.1))
    executor.give(np.array([[0.01, 0.0, 0.0]] * 8))
    assert executor.stopped
    assert not executor.needs_chunk
    for _ in range(5):
        assert executor.next().tolist() == [0.0, 0.0, 0.0]
    executor.reset()
    assert executor.needs_chunk
    assert not executor.stopped


def test_only_the_whole_chunk_stops():
    executor = WaypointExecutor(replan_every=2)
    executor.give(np.array([[0.0, 0.0, 0.0]] * 4 + [[0.4, 0.0, 0.0]] * 4))  # waits, then goes
    assert not executor.stopped
    assert executor.next().tolist() == [0.0, 0.0, 0.0]


def test_a_policy_answers_in_the_frame_of_each_step_and_stops_sharply():
    from_start = np.array([[1.0, 0.0, QUARTER], [1.0, 2.0, QUARTER]], dtype=np.float32)
    jitter = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32) * 1e-3
    drawn = Drawn([from_start, jitter])
    going, standing = WaypointPolicy(drawn, reading="from_start").act(["a", "b"], generator=["g", "h"])
    np.testing.assert_allclose(going, [[1, 0, QUARTER], [2, 0, 0]], atol=1e-6)
    np.testing.assert_array_equal(standing, np.zeros((8, 3)))
    assert drawn.asked == [(["a", "b"], ["g", "h"])]


def test_what_does_not_fit_is_refused():
    with pytest.raises(SettingError, match="replan_every must be at least 1, got 0"):
        WaypointExecutor(replan_every=0)
    with pytest.raises(ShapeError, match=r"chunk must have the shape \(step, 3\), got \(8, 7\)"):
        WaypointExecutor(replan_every=1).give(np.zeros((8, 7)))
    with pytest.raises(ShapeError, match=r"got \(0, 3\)"):
        WaypointPolicy(Drawn([np.zeros((0, 3))])).act([], generator=[])
