"""Rooms, doors and round objects seen from above, and the shortest way of a round robot among them.

Light on purpose: numbers alone, no simulator. x points east, y north, headings are counter-clockwise from east.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from jaxtyping import Float

from vla_kit.errors import SettingError, ShapeError

__all__ = ["Disc", "Door", "FloorPlan", "Room", "ShortestPaths", "shared_wall"]

Point = Float[np.ndarray, "2"]
"""x and y [m]."""

_CELL_M: Final = 0.1
_SAMPLE_M: Final = 0.03
_NEAREST_M: Final = 0.6
"""How far from a free cell a point may lie that counts as inside, such as a robot that leans on a wall [m]."""
_NEIGHBOURS: Final = [(1, 0), (0, 1), (-1, 0), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A rectangle, its sides along the axes.

    Args:
        west: Least x [m].
        east: Largest x [m].
        south: Least y [m].
        north: Largest y [m].

    Raises:
        SettingError: If it has no finite area.

    Examples:
        >>> Room(west=0, east=4, south=0, north=2).middle
        (2.0, 1.0)
    """

    west: float
    east: float
    south: float
    north: float

    def __post_init__(self) -> None:
        if not (-math.inf < self.west < self.east < math.inf and -math.inf < self.south < self.north < math.inf):
            raise SettingError(f"a room must have a finite area above 0, got {self}. Exchange its sides.")

    @property
    def middle(self) -> tuple[float, float]:
        """Its middle, x and y [m]."""
        return (self.west + self.east) / 2, (self.south + self.north) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """An opening in the wall that two rooms share.

    Args:
        rooms: Their numbers in the plan.
        place: Middle of the opening: x in a wall that runs east, y in one that runs north [m].
        width: Of the opening [m].

    Raises:
        SettingError: If `rooms` are not two different numbers, `place` is not finite, or there is no width.
    """

    rooms: tuple[int, int]
    place: float
    width: float

    def __post_init__(self) -> None:
        if len(self.rooms) != 2 or self.rooms[0] == self.rooms[1] or min(self.rooms) < 0:
            raise SettingError(f"rooms must be the numbers of two rooms, got {self.rooms}. Count them from 0.")
        if not math.isfinite(self.place):
            raise SettingError(f"place must be finite, got {self.place}. Give metres along the wall.")
        if not 0 < self.width < math.inf:
            raise SettingError(f"width must be above 0 and finite, got {self.width}. Give metres.")

    @property
    def span(self) -> tuple[float, float]:
        """Where it begins and ends along the wall [m]."""
        return self.place - self.width / 2, self.place + self.width / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Disc:
    """An object that nobody can walk through.

    Args:
        x: Of its middle [m].
        y: Of its middle [m].
        radius: Of its foot [m].

    Raises:
        SettingError: If a number is not finite, or there is no radius.
    """

    x: float
    y: float
    radius: float

    def __post_init__(self) -> None:
        for name, value in (("x", self.x), ("y", self.y)):
            if not math.isfinite(value):
                raise SettingError(f"{name} must be finite, got {value}. Give metres.")
        if not 0 < self.radius < math.inf:
            raise SettingError(f"radius must be above 0 and finite, got {self.radius}. Give metres.")


@dataclass(frozen=True, eq=False)
class FloorPlan:
    """What stands in the way of a robot: walls without thickness, with openings, and objects.

    Args:
        rooms: Rooms, none inside another.
        doors: Openings between rooms that share a wall.
        discs: Objects.

    Raises:
        SettingError: If there is no room, a door is of rooms that are not there or share no wall, or it reaches beyond
            the wall.

    Examples:
        >>> plan = FloorPlan([Room(west=0, east=4, south=0, north=4)])
        >>> plan.clearance(np.array([[1.0, 2.0], [3.5, 3.9]])).round(3).tolist()
        [1.0, 0.1]
    """

    rooms: Sequence[Room]
    doors: Sequence[Door] = ()
    discs: Sequence[Disc] = ()

    def __post_init__(self) -> None:
        if not self.rooms:
            raise SettingError("rooms must hold at least one room, got none. Draw one.")
        for door in self.doors:
            if max(door.rooms) >= len(self.rooms):
                raise SettingError(
                    f"rooms of a door must be numbers below {len(self.rooms)}, got {door}. Count the rooms from 0."
                )
            _, _, low, high = shared_wall(self.rooms[door.rooms[0]], self.rooms[door.rooms[1]])
            if not low <= door.span[0] < door.span[1] <= high:
                raise SettingError(
                    f"a door must lie within the wall of its rooms, [{low}, {high}], got {door}. Move or narrow it."
                )

    @cached_property
    def walls(self) -> Float[np.ndarray, "wall 2 2"]:
        """Both ends of every piece of wall [m]."""
        pieces: list[list[tuple[float, float]]] = []
        for number, room in enumerate(self.rooms):
            for vertical, at, low, high in (
                (True, room.west, room.south, room.north),
                (True, room.east, room.south, room.north),
                (False, room.south, room.west, room.east),
                (False, room.north, room.west, room.east),
            ):
                gaps = sorted(
                    door.span
                    for door in self.doors
                    if number in door.rooms
                    and shared_wall(*(self.rooms[one] for one in door.rooms))[:2] == (vertical, at)
                )
                for begin, end in zip([low, *(gap[1] for gap in gaps)], [*(gap[0] for gap in gaps), high], strict=True):
                    if begin < end:
                        pieces.append([(at, begin), (at, end)] if vertical else [(begin, at), (end, at)])
        return np.array(pieces, dtype=np.float64)

    def clearance(self, points: Float[np.ndarray, "point 2"]) -> Float[np.ndarray, " point"]:
        """Distance of points to the nearest wall or object [m]; negative inside an object, -inf outside all rooms."""
        points = np.asarray(points, dtype=np.float64)
        begin, along = self.walls[:, 0], self.walls[:, 1] - self.walls[:, 0]
        reach = ((points[:, None] - begin) * along).sum(-1) / (along * along).sum(-1)
        nearest = begin + reach.clip(0, 1)[..., None] * along
        found: np.ndarray = np.linalg.norm(points[:, None] - nearest, axis=-1).min(axis=1)
        for disc in self.discs:
            found = np.minimum(found, np.hypot(points[:, 0] - disc.x, points[:, 1] - disc.y) - disc.radius)
        inside = np.zeros(len(points), dtype=np.bool_)
        for room in self.rooms:
            inside |= (
                (room.west <= points[:, 0])
                & (points[:, 0] <= room.east)
                & (room.south <= points[:, 1])
                & (points[:, 1] <= room.north)
            )
        return np.where(inside, found, -np.inf)

    def is_clear(self, begin: Point, end: Point, *, radius: float) -> bool:
        """Whether a disc of `radius` [m] can move straight from one point to another."""
        count = max(2, math.ceil(float(np.linalg.norm(end - begin)) / _SAMPLE_M) + 1)
        return bool((self.clearance(np.linspace(begin, end, count)) >= radius).all())


class ShortestPaths:
    """The shortest way to one goal from anywhere, for a round robot.

    A grid of 10 cm gives the way around obstacles, and straight lines replace its corners wherever they are free. The
    length is that of a way that exists, so never below the true geodesic; among rooms it lies within a few per cent.

    Args:
        plan: Walls and objects.
        goal: Where ways end.
        radius: Obstacles are inflated by so much: the robot's own, and a margin [m].

    Raises:
        ShapeError: If the goal is no point.
        SettingError: If the goal lies in no room, or further than 60 cm from where the robot can stand, or `radius` is
            negative or not finite.

    Examples:
        >>> plan = FloorPlan([Room(west=0, east=5, south=0, north=5)])
        >>> round(ShortestPaths(plan, np.array([4.0, 4.0]), radius=0.3).length(np.array([1.0, 0.5])), 3)
        4.61
    """

    def __init__(self, plan: FloorPlan, goal: Point, *, radius: float) -> None:
        self._plan, self._goal, self._radius = plan, np.asarray(goal, dtype=np.float64), radius
        if self._goal.shape != (2,):
            raise ShapeError(f"goal must have the shape (2,), got {self._goal.shape}. Give x and y.")
        if not np.isfinite(self._goal).all():
            raise SettingError(f"goal must be finite, got {self._goal.tolist()}. Give x and y [m].")
        if not 0 <= radius < math.inf:
            raise SettingError(f"radius must be at least 0 and finite, got {radius}. Give metres.")
        west, south = min(room.west for room in plan.rooms), min(room.south for room in plan.rooms)
        east, north = max(room.east for room in plan.rooms), max(room.north for room in plan.rooms)
        self._origin = np.array([west, south])
        self._shape = math.ceil((east - west) / _CELL_M) + 1, math.ceil((north - south) / _CELL_M) + 1
        cells = np.stack(np.meshgrid(*map(np.arange, self._shape), indexing="ij"), axis=-1).reshape(-1, 2)
        self._free = (plan.clearance(self._origin + cells * _CELL_M) >= radius).reshape(self._shape)
        seed = self._cell(self._goal)
        if seed is None:
            raise SettingError(f"goal must lie where the robot can stand, got {self._goal.tolist()}. Choose another.")
        self._far = self._flood(seed)

    def path(self, start: Point) -> Float[np.ndarray, "point 2"] | None:
        """The way from a point, with both ends; None where there is none.

        Args:
            start: Where it begins [m].

        Returns:
            Corners of the way.
        """
        start = np.asarray(start, dtype=np.float64)
        if self._plan.is_clear(start, self._goal, radius=self._radius):
            return np.stack([start, self._goal])
        cell = self._cell(start)
        if cell is None or not math.isfinite(self._far[cell]):
            return None
        corners = [cell]
        while self._far[corners[-1]] > 0:
            x, y = corners[-1]
            around = [(x + dx, y + dy) for dx, dy in _NEIGHBOURS]
            corners.append(min((one for one in around if self._reached(one)), key=lambda one: self._far[one]))
        points = [start, *(self._origin + np.array(corner) * _CELL_M for corner in corners), self._goal]
        return np.stack(self._pull(points))

    def length(self, start: Point) -> float:
        """Length of the way from a point [m]; inf where there is none."""
        path = self.path(start)
        return math.inf if path is None else float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())

    def _reached(self, cell: tuple[int, int]) -> bool:
        inside = 0 <= cell[0] < self._shape[0] and 0 <= cell[1] < self._shape[1]
        return inside and math.isfinite(self._far[cell])

    def _cell(self, point: Point) -> tuple[int, int] | None:
        """The free cell nearest to a point, if there is one at all near."""
        reach = math.ceil(_NEAREST_M / _CELL_M)
        at = np.round((point - self._origin) / _CELL_M).astype(int)
        low, high = np.maximum(at - reach, 0), np.minimum(at + reach + 1, self._shape)
        if (low >= high).any():
            return None
        free = np.argwhere(self._free[low[0] : high[0], low[1] : high[1]]) + low
        if len(free) == 0:
            return None
        apart = np.linalg.norm(self._origin + free * _CELL_M - point, axis=1)
        best = int(apart.argmin())
        return (int(free[best, 0]), int(free[best, 1])) if apart[best] <= _NEAREST_M else None

    def _flood(self, seed: tuple[int, int]) -> Float[np.ndarray, "column row"]:
        """Length of the way over the grid from each cell to the goal [m]."""
        far = np.full(self._shape, np.inf)
        far[seed] = 0.0
        queue = [(0.0, seed)]
        free = self._free
        while queue:
            length, (x, y) = heapq.heappop(queue)
            if length > far[x, y]:
                continue
            for dx, dy in _NEIGHBOURS:
                i, j = x + dx, y + dy
                if 0 <= i < self._shape[0] and 0 <= j < self._shape[1] and free[i, j]:
                    further = length + _CELL_M * math.hypot(dx, dy)
                    if further < far[i, j] - 1e-9:
                        far[i, j] = further
                        heapq.heappush(queue, (further, (i, j)))
        return far

    def _pull(self, points: list[Point]) -> list[Point]:
        """Leave out every corner that a free straight line makes needless."""
        kept, at = [points[0]], 0
        while at < len(points) - 1:
            ahead = len(points) - 1
            while ahead > at + 1 and not self._plan.is_clear(points[at], points[ahead], radius=self._radius):
                ahead -= 1
            kept.append(points[ahead])
            at = ahead
        return kept


def shared_wall(first: Room, second: Room) -> tuple[bool, float, float, float]:
    """The wall between two rooms.

    Args:
        first: A room.
        second: Another one.

    Returns:
        Whether it runs north, where it stands, and its two ends [m].

    Raises:
        SettingError: If they share none.

    Examples:
        >>> shared_wall(Room(west=0, east=4, south=0, north=3), Room(west=4, east=6, south=1, north=5))
        (True, 4, 1, 3)
    """
    low, high = max(first.south, second.south), min(first.north, second.north)
    if low < high and (first.east == second.west or first.west == second.east):
        return True, first.east if first.east == second.west else first.west, low, high
    low, high = max(first.west, second.west), min(first.east, second.east)
    if low < high and (first.north == second.south or first.south == second.north):
        return False, first.north if first.north == second.south else first.south, low, high
    raise SettingError(f"rooms of a door must share a wall, got {first} and {second}. Move one of them.")
