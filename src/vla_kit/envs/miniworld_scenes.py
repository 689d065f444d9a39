"""Layouts for MiniWorld, drawn from a seed: a route through rooms, a named object, a target that moves.

Light on purpose: numbers and words, no simulator. Every seed is a layout of its own, so the seeds of evaluations are
layouts that no demonstration has.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
from jaxtyping import Float

from vla_kit.envs.floor_plan import Disc, Door, FloorPlan, Room, shared_wall
from vla_kit.errors import SettingError

__all__ = ["FAMILIES", "NavigationScene", "SceneObject", "draw_scene"]

_SCENE_STREAM: Final = 7011
"""Keeps the layout independent of the sentence, which starts from the same seed."""

_COLOURS: Final = ("red", "green", "blue", "yellow")
_KINDS: Final = ("ball", "box")
_WALLS: Final = ("brick_wall", "cinder_blocks", "concrete", "rock", "stucco", "wood_planks")
_HALL_FLOORS: Final = ("asphalt", "floor_tiles_bw", "marble")
_ROOM_FLOORS: Final = ("cardboard", "grass", "wood")
_OBJECT_RADIUS_M: Final = 0.35
_TARGET_STEP_M: Final = 0.22
_DOOR_M: Final = 1.4

_ROUTES: Final = (("left",), ("right",), ("ahead",), ("ahead", "left"), ("ahead", "right"))
_FIRST_LEG: Final = {
    "left": "turn left and go through the door",
    "right": "turn right and go through the door",
    "ahead": "go straight through the door",
}
_NEXT_LEG: Final = {
    "left": "turn left and go through the next door",
    "right": "turn right and go through the next door",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """Something to see, and not to walk through.

    Args:
        kind: `ball` or `box`.
        colour: One of MiniWorld's.
        x: Of its middle [m].
        y: Of its middle [m].
    """

    kind: str
    colour: str
    x: float
    y: float

    @property
    def name(self) -> str:
        """As an instruction says it."""
        return f"{self.colour} {self.kind}"

    @property
    def disc(self) -> Disc:
        """Its foot."""
        return Disc(x=self.x, y=self.y, radius=_OBJECT_RADIUS_M)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NavigationScene:
    """One layout with its task.

    Args:
        plan: Rooms and doors, without objects.
        looks: Wall and floor texture of each room.
        start: Pose of the robot [m, rad].
        goal: Where it shall stop [m].
        objects: Everything that stands around; the first is the goal or the target, where the task has one.
        words: What fills the places in the sentences of the task.
        target_path: Place of the first object at each decision, the last one for all later; None where it rests.
    """

    plan: FloorPlan
    looks: tuple[tuple[str, str], ...]
    start: tuple[float, float, float]
    goal: tuple[float, float]
    objects: tuple[SceneObject, ...]
    words: Mapping[str, str]
    target_path: Float[np.ndarray, "step 2"] | None = None


def draw_scene(family: str, seed: int) -> NavigationScene:
    """Draw the layout of an episode.

    Args:
        family: Key of `FAMILIES`.
        seed: Number of the episode.

    Returns:
        The layout; equal seeds give equal ones.

    Raises:
        SettingError: If there is no such family.

    Examples:
        >>> scene = draw_scene("find-object", 0)
        >>> len(scene.objects), scene.words["object"] == scene.objects[0].name
        (4, True)
    """
    if family not in FAMILIES:
        raise SettingError(f"family must be one of {sorted(FAMILIES)}, got {family!r}. Choose one.")
    return FAMILIES[family](np.random.default_rng([seed, _SCENE_STREAM]))


def _route(rng: np.random.Generator) -> NavigationScene:
    """Six rooms: the start below, one to each side of it, three above; doors so that each route is there.

    The two halls with several doors have floors of another kind than the rooms at the ends, as houses have, so that
    somebody who remembers two seconds can tell how far he has come.
    """
    columns = np.cumsum([0.0, *rng.uniform(3.6, 4.6, size=3)])
    rows = np.cumsum([0.0, *rng.uniform(3.6, 4.6, size=2)])
    places = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]  # column and row of each room
    rooms = [Room(west=columns[i], east=columns[i + 1], south=rows[j], north=rows[j + 1]) for i, j in places]
    doors = []
    for first, second in ((1, 0), (1, 2), (1, 4), (4, 3), (4, 5)):
        sideways = places[first][1] == places[second][1]
        middle = rooms[first].middle[1 if sideways else 0]
        doors.append(Door(rooms=(first, second), place=middle + rng.uniform(-0.5, 0.5), width=_DOOR_M))
    legs = _ROUTES[int(rng.integers(len(_ROUTES)))]
    last = {("left",): 0, ("right",): 2, ("ahead",): 4, ("ahead", "left"): 3, ("ahead", "right"): 5}[legs]
    x, y = rooms[1].middle + rng.uniform(-0.4, 0.4, size=2)
    words = " and then ".join([_FIRST_LEG[legs[0]], *(_NEXT_LEG[leg] for leg in legs[1:])])
    scene = NavigationScene(
        plan=FloorPlan(rooms, doors),
        looks=tuple(_look(rng, _HALL_FLOORS if number in (1, 4) else _ROOM_FLOORS) for number in range(len(rooms))),
        start=(float(x), float(y), math.pi / 2 + float(rng.uniform(-0.3, 0.3))),
        goal=rooms[last].middle,
        objects=(),
        words={"route": words},
    )
    return _turned(scene, int(rng.integers(4)))


def _find(rng: np.random.Generator) -> NavigationScene:
    """One room with four objects of different names; the robot stands anywhere and looks anywhere."""
    width, depth = rng.uniform(5.0, 7.0, size=2)
    names = [(colour, kind) for colour in _COLOURS for kind in _KINDS]
    chosen = [names[place] for place in rng.permutation(len(names))[:4]]
    places = _apart(rng, width, depth, count=5, margin=0.9, distance=1.7)
    objects = tuple(
        SceneObject(kind=kind, colour=colour, x=float(x), y=float(y))
        for (colour, kind), (x, y) in zip(chosen, places[1:], strict=True)
    )
    return NavigationScene(
        plan=FloorPlan([Room(west=0.0, east=float(width), south=0.0, north=float(depth))]),
        looks=(_look(rng),),
        start=(float(places[0][0]), float(places[0][1]), float(rng.uniform(-math.pi, math.pi))),
        goal=(objects[0].x, objects[0].y),
        objects=objects,
        words={"object": objects[0].name},
    )


def _follow(rng: np.random.Generator) -> NavigationScene:
    """One hall with a target in view that moves from place to place and comes to rest, and something else."""
    width, depth = rng.uniform(7.0, 9.0, size=2)
    size = np.array([width, depth])
    corners = _apart(rng, width, depth, count=4, margin=1.2, distance=2.2)
    route, other = corners[:3], corners[3]
    steps = [route[0]]
    for goal in route[1:]:
        count = max(1, math.ceil(float(np.linalg.norm(goal - steps[-1])) / _TARGET_STEP_M))
        steps += list(np.linspace(steps[-1], goal, count + 1)[1:])
    away = float(rng.uniform(-math.pi, math.pi))
    while True:
        start = route[0] - rng.uniform(1.6, 2.4) * np.array([math.cos(away), math.sin(away)])
        if ((start > 0.7) & (start < size - 0.7)).all() and np.linalg.norm(start - other) > 1.2:
            break
        away = float(rng.uniform(-math.pi, math.pi))
    names = [(colour, kind) for colour in _COLOURS for kind in _KINDS]
    first, second = (names[place] for place in rng.permutation(len(names))[:2])
    return NavigationScene(
        plan=FloorPlan([Room(west=0.0, east=float(width), south=0.0, north=float(depth))]),
        looks=(_look(rng),),
        start=(float(start[0]), float(start[1]), away + float(rng.uniform(-0.35, 0.35))),
        goal=(float(steps[-1][0]), float(steps[-1][1])),
        objects=(
            SceneObject(kind=first[1], colour=first[0], x=float(route[0][0]), y=float(route[0][1])),
            SceneObject(kind=second[1], colour=second[0], x=float(other[0]), y=float(other[1])),
        ),
        words={"object": f"{first[0]} {first[1]}"},
        target_path=np.stack(steps),
    )


FAMILIES: Final = MappingProxyType({"follow-route": _route, "find-object": _find, "follow-target": _follow})
"""Name of a task -> how its layouts are drawn: instruction following, object search, target tracking."""


def _look(rng: np.random.Generator, floors: tuple[str, ...] = _HALL_FLOORS + _ROOM_FLOORS) -> tuple[str, str]:
    return _WALLS[int(rng.integers(len(_WALLS)))], floors[int(rng.integers(len(floors)))]


def _apart(
    rng: np.random.Generator, width: float, depth: float, *, count: int, margin: float, distance: float
) -> Float[np.ndarray, "point 2"]:
    """Places in a room, away from its walls and from each other."""
    low, high = np.array([margin, margin]), np.array([width, depth]) - margin
    found: list[np.ndarray] = []
    tries = 0
    while len(found) < count:
        tries += 1
        if tries % 200 == 0:
            found = []  # the first ones left no room
        point = rng.uniform(low, high)
        if all(np.linalg.norm(point - other) >= distance for other in found):
            found.append(point)
    return np.stack(found)


def _turned(scene: NavigationScene, quarters: int) -> NavigationScene:
    """The same scene after quarter turns, so that no direction of the compass means anything."""
    for _ in range(quarters):
        rooms = [Room(west=-one.north, east=-one.south, south=one.west, north=one.east) for one in scene.plan.rooms]
        doors = []
        for door in scene.plan.doors:
            runs_north, *_ = shared_wall(*(scene.plan.rooms[number] for number in door.rooms))
            doors.append(Door(rooms=door.rooms, place=-door.place if runs_north else door.place, width=door.width))
        x, y, heading = scene.start
        scene = NavigationScene(
            plan=FloorPlan(rooms, doors),
            looks=scene.looks,
            start=(-y, x, heading + math.pi / 2),
            goal=(-scene.goal[1], scene.goal[0]),
            objects=scene.objects,
            words=scene.words,
        )
    return scene
