"""Floor plans and shortest ways, against geometry by hand."""

import math

import numpy as np
import pytest

from vla_kit.envs.floor_plan import Disc, Door, FloorPlan, Room, ShortestPaths
from vla_kit.errors import SettingError

LEFT, RIGHT = Room(west=0, east=4, south=0, north=4), Room(west=4, east=8, south=0, north=4)


def two_rooms(place=3.0, width=1.0):
    return FloorPlan([LEFT, RIGHT], [Door(rooms=(0, 1), place=place, width=width)])


def test_a_door_cuts_the_wall_of_both_rooms():
    pieces = [piece for piece in two_rooms().walls.tolist() if piece[0][0] == piece[1][0] == 4]
    assert sorted(pieces) == [[[4, 0], [4, 2.5]], [[4, 0], [4, 2.5]], [[4, 3.5], [4, 4]], [[4, 3.5], [4, 4]]]


def test_clearance_by_hand():
    plan = FloorPlan([LEFT, RIGHT], [Door(rooms=(0, 1), place=3.0, width=1.0)], [Disc(x=1, y=1, radius=0.5)])
    points = np.array([[2.0, 3.0], [4.0, 3.0], [1.0, 1.25], [2.0, 1.0], [9.0, 1.0], [3.0, 1.0]])
    assert plan.clearance(points).tolist() == [1.0, 0.5, -0.25, 0.5, -math.inf, 1.0]


def test_a_robot_fits_through_a_door_or_does_not():
    inside, beyond = np.array([2.0, 3.0]), np.array([6.0, 3.0])
    assert two_rooms().is_clear(inside, beyond, radius=0.45)
    assert not two_rooms().is_clear(inside, beyond, radius=0.55)
    assert not two_rooms(place=1.0).is_clear(inside, beyond, radius=0.3)


def test_the_shortest_way_goes_straight_where_it_can():
    paths = ShortestPaths(two_rooms(), np.array([6.0, 3.0]), radius=0.3)
    assert paths.length(np.array([2.0, 3.0])) == pytest.approx(4.0)
    assert len(paths.path(np.array([2.0, 3.0]))) == 2


def test_the_shortest_way_bends_around_a_door_post():
    """From (2, 1) to (6, 1), over the post (4, 2.5) at 30 cm: a tangent, an arc, a tangent."""
    paths = ShortestPaths(two_rooms(), np.array([6.0, 1.0]), radius=0.3)
    away = math.hypot(2.0, 1.5)
    arc = math.pi + 2 * math.atan2(1.5, 2.0) - 2 * math.acos(0.3 / away)
    exact = 2 * math.sqrt(away**2 - 0.3**2) + 0.3 * arc
    assert exact <= paths.length(np.array([2.0, 1.0])) <= 1.03 * exact


def test_an_object_in_the_way_is_walked_around():
    plan = FloorPlan([Room(west=0, east=6, south=0, north=6)], discs=[Disc(x=3, y=3, radius=0.5)])
    paths = ShortestPaths(plan, np.array([5.0, 3.0]), radius=0.3)
    reach, away = 0.8, 2.0
    exact = 2 * (math.sqrt(away**2 - reach**2) + reach * math.asin(reach / away))
    assert exact <= paths.length(np.array([1.0, 3.0])) <= 1.03 * exact
    way = paths.path(np.array([1.0, 3.0]))
    assert (plan.clearance(way) >= 0.3 - 1e-9).all()


def test_closed_rooms_cannot_be_reached():
    paths = ShortestPaths(FloorPlan([LEFT, RIGHT]), np.array([6.0, 3.0]), radius=0.3)
    assert paths.path(np.array([2.0, 3.0])) is None
    assert paths.length(np.array([2.0, 3.0])) == math.inf
    assert paths.length(np.array([7.9, 3.9])) < 3.0  # from where it touches walls, too


def test_what_does_not_fit_is_refused():
    with pytest.raises(SettingError, match="a room must have a finite area above 0"):
        Room(west=1, east=1, south=0, north=1)
    with pytest.raises(SettingError, match=r"a door must lie within the wall of its rooms, \[0, 4\]"):
        two_rooms(place=3.8)
    with pytest.raises(SettingError, match="rooms of a door must share a wall"):
        FloorPlan([LEFT, Room(west=9, east=10, south=0, north=1)], [Door(rooms=(0, 1), place=1, width=1)])
    with pytest.raises(SettingError, match="rooms of a door must be numbers below 2, got Door"):
        FloorPlan([LEFT, RIGHT], [Door(rooms=(0, 2), place=1, width=1)])
    for rooms in ((0, 0), (-1, 0), (0, 1, 2)):
        with pytest.raises(SettingError, match=r"rooms must be the numbers of two rooms, got \("):
            Door(rooms=rooms, place=1, width=1)
    with pytest.raises(SettingError, match=r"goal must lie where the robot can stand, got \[20.0, 3.0\]"):
        ShortestPaths(two_rooms(), np.array([20.0, 3.0]), radius=0.3)
