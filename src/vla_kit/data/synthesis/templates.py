"""What the six kinds of task ask of the tool: poses on the table, sentences, and the parts of the task."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from numpy.random import Generator

from vla_kit.data.synthesis.sentences import DIRECTIONS, PLACES, RELATIONS, VIEWPOINTS, compose, draw_objects
from vla_kit.data.synthesis.template_names import TemplateName
from vla_kit.errors import DataError

__all__ = ["DrawnTask", "Grip", "Move", "Subtask", "Workspace", "draw_task"]

_LIFT_M: Final = 0.1
_GRASP_M: Final = (0.03, 0.08)  # height of a grasp
_WIDEST_RAD: Final = 0.9  # bearing of objects, to either side
_APART_M: Final = 0.1  # between objects
_DRAWS: Final = 10_000  # of points until it is clear that there is no room
_CLOSED: Final = 0.0
_OPEN: Final = 1.0


@dataclass(frozen=True)
class Move:
    """Bring the tool, pointing down, to a pose.

    Args:
        position: In the base's frame [m].
        yaw: Of the tool about the vertical [rad].
        straight: Along a straight line at even turning; otherwise as the joints like it.
    """

    position: tuple[float, float, float]
    yaw: float
    straight: bool


@dataclass(frozen=True)
class Grip:
    """Bring the fingers to an opening while the arm rests.

    Args:
        opening: 0 is closed, 1 is open.
    """

    opening: float


@dataclass(frozen=True)
class Subtask:
    """A part of a task with a sentence of its own.

    Args:
        instruction: What to do.
        actions: Moves and grips in order.
    """

    instruction: str
    actions: tuple[Move | Grip, ...]


@dataclass(frozen=True)
class DrawnTask:
    """A task in one scene.

    Args:
        instruction: What to do.
        parts: The parts in order.
        opening: Of the gripper at the beginning.
    """

    instruction: str
    parts: tuple[Subtask, ...]
    opening: float


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Where an arm works.

    Args:
        radius_m: Nearest and farthest distance of objects from the base.
        yaw: Of the tool in the home posture, which points along x [rad].
    """

    radius_m: tuple[float, float]
    yaw: float


def draw_task(template: TemplateName, workspace: Workspace, rng: Generator) -> DrawnTask:
    """Draw a scene and a task in it. Whether the arm can do it is not known yet.

    Directions and sides in sentences are those that the robot sees. Objects are points with a width and a heading:
    nothing is simulated, and only the arm and the table are obstacles.

    Args:
        template: Kind of task.
        workspace: Where the arm works.
        rng: Draws everything.

    Raises:
        DataError: If the workspace has no room for the objects of the task.

    Examples:
        >>> task = draw_task("push", Workspace(radius_m=(0.35, 0.6), yaw=0.0), np.random.default_rng(0))
        >>> len(task.parts)
        2
    """
    draw = {
        "pick_and_place": _pick_and_place,
        "push": _push,
        "pull": _pull,
        "rotate_and_reposition": _rotate_and_reposition,
        "rotate_toward_viewpoint": _rotate_toward_viewpoint,
        "swap": _swap,
    }[template]
    return draw(workspace, rng)


def _pick_and_place(workspace: Workspace, rng: Generator) -> DrawnTask:
    thing, other = draw_objects(rng)
    start, reference = _apart(workspace, rng, 2)
    relation = _choice(rng, tuple(RELATIONS))
    goal = reference + np.array(RELATIONS[relation]) * rng.uniform(_APART_M, 0.18)
    yaw, height, width = _yaw(workspace, start, rng), rng.uniform(*_GRASP_M), rng.uniform(0.2, 0.7)
    goal_yaw = yaw + _bearing(goal) - _bearing(start)
    sentence = compose("pick_and_place", rng, object=thing, other=other, relation=relation)
    pick = Subtask(f"pick up the {thing}", _pick(start, yaw, height, width))
    place = Subtask(f"place the {thing} {relation} the {other}", _place(goal, goal_yaw, height))
    return DrawnTask(sentence, (pick, place), _OPEN)


def _push(workspace: Workspace, rng: Generator) -> DrawnTask:
    thing, _ = draw_objects(rng)
    direction = _choice(rng, tuple(DIRECTIONS))
    line = _unit(DIRECTIONS[direction])
    centimetres = int(rng.integers(6, 21))
    start = _point(workspace, rng)
    goal = start + line * centimetres / 100
    behind = start - line * 0.02
    yaw = _nearest(float(np.arctan2(line[1], line[0])), workspace.yaw + _bearing(start))
    height = rng.uniform(*_GRASP_M)
    sentence = compose("push", rng, object=thing, distance=f"{centimetres} cm", direction=direction)
    reach = Subtask(
        f"reach behind the {thing}", (Move(_at(behind, height + _LIFT_M), yaw, False), _down(behind, height, yaw))
    )
    push = Subtask(
        f"push the {thing} {direction}",
        (Move(_at(start, height), yaw, True), Move(_at(goal, height), yaw, True), _up(goal, height, yaw)),
    )
    return DrawnTask(sentence, (reach, push), _CLOSED)


def _pull(workspace: Workspace, rng: Generator) -> DrawnTask:
    thing, _ = draw_objects(rng)
    direction = _choice(rng, tuple(DIRECTIONS))
    centimetres = int(rng.integers(6, 21))
    start = _point(workspace, rng)
    goal = start + _unit(DIRECTIONS[direction]) * centimetres / 100
    yaw, height, width = _yaw(workspace, start, rng), rng.uniform(*_GRASP_M), rng.uniform(0.2, 0.7)
    sentence = compose("pull", rng, object=thing, distance=f"{centimetres} cm", direction=direction)
    grasp = Subtask(
        f"grasp the {thing}",
        (Move(_at(start, height + _LIFT_M), yaw, False), _down(start, height, yaw), Grip(width)),
    )
    pull = Subtask(
        f"pull the {thing} {direction}",
        (Move(_at(goal, height), yaw, True), Grip(_OPEN), _up(goal, height, yaw)),
    )
    return DrawnTask(sentence, (grasp, pull), _OPEN)


def _rotate_and_reposition(workspace: Workspace, rng: Generator) -> DrawnTask:
    thing, _ = draw_objects(rng)
    place = _choice(rng, tuple(PLACES))
    start, goal = _point(workspace, rng), _place_point(workspace, PLACES[place], rng)
    degrees = 5 * int(rng.integers(6, 19))
    turn = _choice(rng, ("clockwise", "counterclockwise"))
    angle = np.deg2rad(degrees) * (-1.0 if turn == "clockwise" else 1.0)
    yaw = _yaw(workspace, start, rng, turned=angle)
    height, width = rng.uniform(*_GRASP_M), rng.uniform(0.2, 0.7)
    sentence = compose("rotate_and_reposition", rng, object=thing, angle=f"{degrees} degrees", turn=turn, place=place)
    pick = Subtask(f"pick up the {thing}", _pick(start, yaw, height, width))
    rotate = Subtask(
        f"rotate the {thing} {degrees} degrees {turn}", (Move(_at(start, height + _LIFT_M), yaw + angle, True),)
    )
    put = Subtask(f"put the {thing} on {place}", _place(goal, yaw + angle, height))
    return DrawnTask(sentence, (pick, rotate, put), _OPEN)


def _rotate_toward_viewpoint(workspace: Workspace, rng: Generator) -> DrawnTask:
    thing, _ = draw_objects(rng)
    viewpoint = _choice(rng, tuple(VIEWPOINTS))
    start = _point(workspace, rng)
    wanted = _bearing(np.array(VIEWPOINTS[viewpoint]) - start)
    angle = rng.uniform(0.35, 1.75) * rng.choice([-1.0, 1.0])
    yaw = _nearest(wanted - angle, workspace.yaw + _bearing(start) - angle / 2, period=np.pi / 2)
    height, width = rng.uniform(*_GRASP_M), rng.uniform(0.2, 0.7)
    sentence = compose("rotate_toward_viewpoint", rng, object=thing, viewpoint=viewpoint)
    pick = Subtask(f"pick up the {thing}", _pick(start, yaw, height, width))
    rotate = Subtask(f"rotate the {thing} toward {viewpoint}", (Move(_at(start, height + _LIFT_M), yaw + angle, True),))
    down = Subtask(
        f"put the {thing} down", (_down(start, height, yaw + angle), Grip(_OPEN), _up(start, height, yaw + angle))
    )
    return DrawnTask(sentence, (pick, rotate, down), _OPEN)


def _swap(workspace: Workspace, rng: Generator) -> DrawnTask:
    thing, other = draw_objects(rng)
    first, second, aside = _apart(workspace, rng, 3)
    height, width = rng.uniform(*_GRASP_M, size=2), rng.uniform(0.2, 0.7, size=2)
    yaw, other_yaw = _yaw(workspace, first, rng), _yaw(workspace, second, rng)
    aside_yaw = yaw + _bearing(aside) - _bearing(first)
    sentence = compose("swap", rng, object=thing, other=other)
    parts = (
        Subtask(
            f"put the {thing} aside",
            (*_pick(first, yaw, height[0], width[0]), *_place(aside, aside_yaw, height[0])),
        ),
        Subtask(
            f"put the {other} where the {thing} was",
            (
                *_pick(second, other_yaw, height[1], width[1]),
                *_place(first, other_yaw + _bearing(first) - _bearing(second), height[1]),
            ),
        ),
        Subtask(
            f"put the {thing} where the {other} was",
            (
                *_pick(aside, aside_yaw, height[0], width[0]),
                *_place(second, aside_yaw + _bearing(second) - _bearing(aside), height[0]),
            ),
        ),
    )
    return DrawnTask(sentence, parts, _OPEN)


def _pick(point: ndarray, yaw: float, height: float, width: float) -> tuple[Move | Grip, ...]:
    above = Move(_at(point, height + _LIFT_M), yaw, False)
    return above, _down(point, height, yaw), Grip(float(width)), _up(point, height, yaw)


def _place(point: ndarray, yaw: float, height: float) -> tuple[Move | Grip, ...]:
    above = Move(_at(point, height + _LIFT_M), yaw, False)
    return above, _down(point, height, yaw), Grip(_OPEN), _up(point, height, yaw)


def _down(point: ndarray, height: float, yaw: float) -> Move:
    return Move(_at(point, height), yaw, True)


def _up(point: ndarray, height: float, yaw: float) -> Move:
    return Move(_at(point, height + _LIFT_M), yaw, True)


def _at(point: ndarray, height: float) -> tuple[float, float, float]:
    return float(point[0]), float(point[1]), float(height)


def _point(workspace: Workspace, rng: Generator) -> Float[ndarray, " 2"]:
    near, far = workspace.radius_m
    return _polar(np.sqrt(rng.uniform(near**2, far**2)), rng.uniform(-_WIDEST_RAD, _WIDEST_RAD))


def _place_point(workspace: Workspace, place: tuple[float, float], rng: Generator) -> Float[ndarray, " 2"]:
    near, far = workspace.radius_m
    share = np.clip(place[0] + rng.uniform(-0.15, 0.15), 0.0, 1.0)
    angle = _WIDEST_RAD * np.clip(place[1] + rng.uniform(-0.1, 0.1), -1.0, 1.0)
    return _polar(near + share * (far - near), angle)


def _apart(workspace: Workspace, rng: Generator, number: int) -> list[Float[ndarray, " 2"]]:
    points: list[ndarray] = []
    for _ in range(_DRAWS):
        point = _point(workspace, rng)
        if all(np.linalg.norm(point - other) > _APART_M for other in points):
            points.append(point)
        if len(points) == number:
            return points
    raise DataError(
        f"radius_m must leave room for {number} objects {_APART_M} m apart, got {workspace.radius_m}. Widen it."
    )


def _polar(radius: float, angle: float) -> ndarray:
    return radius * np.array([np.cos(angle), np.sin(angle)])


def _yaw(workspace: Workspace, point: ndarray, rng: Generator, turned: float = 0.0) -> float:
    """A grasp that leaves the wrist room to turn."""
    return float(workspace.yaw + _bearing(point) + rng.uniform(-0.6, 0.6) - turned / 2)


def _bearing(point: ndarray) -> float:
    return float(np.arctan2(point[1], point[0]))


def _nearest(angle: float, target: float, period: float = np.pi / 2) -> float:
    """The angle equal to `angle` up to whole periods that is nearest to `target`: a gripper looks alike."""
    return float(angle + period * np.round((target - angle) / period))


def _unit(direction: tuple[float, float]) -> Float[ndarray, " 2"]:
    unit: ndarray = np.array(direction) / np.linalg.norm(direction)
    return unit


def _choice(rng: Generator, choices: tuple[str, ...]) -> str:
    return choices[int(rng.integers(len(choices)))]
