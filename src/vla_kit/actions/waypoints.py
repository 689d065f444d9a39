"""Waypoints in the ground plane: what they mean, the poses they lead to, when they say stop, and VLN-CE's actions.

A pose is `(x, y, theta)` in metres and radians. Waypoints are `(dx, dy, dtheta)`: dx forward, dy to the left, dtheta
counter-clockwise seen from above, so that positive turns left.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vla_kit.errors import SettingError, ShapeError

__all__ = [
    "DiscreteAction",
    "StopRule",
    "WaypointReading",
    "convert_waypoints",
    "discrete_to_waypoints",
    "integrate_waypoints",
    "waypoints_between",
    "waypoints_to_discrete",
    "wrap_angle",
]

WaypointReading = Literal["consecutive", "from_start"]
"""What the waypoints of a chunk are measured from.

- `consecutive`: each from the waypoint before it, in the frame of that one; the first from the current pose.
- `from_start`: all from the current pose, in its frame. More than half a turn within one chunk loses its full turns.
"""


class DiscreteAction(IntEnum):
    """The actions of VLN-CE, with Habitat's numbers."""

    STOP = 0
    MOVE_FORWARD = 1
    TURN_LEFT = 2
    TURN_RIGHT = 3


def wrap_angle(angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The same direction within half a turn.

    Args:
        angle: Angles [rad]. Those within half a turn already come back bit for bit.

    Returns:
        Angles in (-pi, pi]; NaN stays NaN.

    Examples:
        >>> wrap_angle(torch.tensor([0.5, 1.5 * torch.pi, -3.0 * torch.pi])).round(decimals=4)
        tensor([ 0.5000, -1.5708,  3.1416])
    """
    wrapped = math.pi - torch.remainder(math.pi - angle, 2 * math.pi)
    return torch.where((angle > -math.pi) & (angle <= math.pi), angle, wrapped)


def integrate_waypoints(
    waypoints: Float[Tensor, "*batch step 3"],
    start: Float[Tensor, "*batch 3"],
    *,
    reading: WaypointReading = "consecutive",
) -> Float[Tensor, "*batch step 3"]:
    """Poses that a chunk leads to.

    Args:
        waypoints: Chunk, in m and rad.
        start: Pose where the chunk begins.
        reading: What the waypoints are measured from.

    Returns:
        Pose at each waypoint, in the dtype of `waypoints`, angles in (-pi, pi]; computed in float64.

    Raises:
        SettingError: If `reading` is unknown.
        ShapeError: If the last axis of one is not 3, or `start` has other leading axes.

    Examples:
        >>> quarter_left = torch.tensor([[1.0, 0.0, torch.pi / 2], [1.0, 0.0, 0.0]])
        >>> integrate_waypoints(quarter_left, torch.zeros(3)).round(decimals=4) + 0.0
        tensor([[1.0000, 0.0000, 1.5708],
                [1.0000, 1.0000, 1.5708]])
        >>> integrate_waypoints(quarter_left, torch.zeros(3), reading="from_start")
        tensor([[1.0000, 0.0000, 1.5708],
                [1.0000, 0.0000, 0.0000]])

    Source:
        Qwen-VLA, arXiv 2605.30280, section 2.4: (dx, dy, dtheta) per waypoint in the ground plane. The paper does not
        say what they are measured from.
    """
    _check(waypoints, start, reading)
    exact, pose = waypoints.double(), start.double()
    if reading == "from_start":
        poses = _compose(pose[..., None, :], exact)
    else:
        reached = [pose]
        for step in exact.unbind(-2):
            reached.append(_compose(reached[-1], step))
        poses = torch.stack(reached[1:], dim=-2) if len(reached) > 1 else exact
    return poses.to(waypoints.dtype)


def waypoints_between(
    poses: Float[Tensor, "*batch step 3"],
    start: Float[Tensor, "*batch 3"],
    *,
    reading: WaypointReading = "consecutive",
) -> Float[Tensor, "*batch step 3"]:
    """Inverse of `integrate_waypoints`: the chunk that leads along given poses.

    Args:
        poses: Pose at each waypoint, in m and rad.
        start: Pose where the chunk begins.
        reading: What the waypoints are measured from.

    Returns:
        Waypoints, in the dtype of `poses`, angles in (-pi, pi]; computed in float64.

    Raises:
        SettingError: If `reading` is unknown.
        ShapeError: If the last axis of one is not 3, or `start` has other leading axes.

    Examples:
        >>> waypoints_between(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([1.0, 0.0, 0.0]))
        tensor([[1.0000, 0.5000, 1.0000]])
    """
    _check(poses, start, reading)
    exact, pose = poses.double(), start.double()[..., None, :]
    before = pose if reading == "from_start" else torch.cat([pose, exact[..., :-1, :]], dim=-2)
    return _displacement(before, exact).to(poses.dtype)


def convert_waypoints(
    waypoints: Float[Tensor, "*batch step 3"], source: WaypointReading, target: WaypointReading
) -> Float[Tensor, "*batch step 3"]:
    """Write a chunk down in the other reading; the pose at its start does not matter.

    Args:
        waypoints: Chunk, in m and rad.
        source: What its waypoints are measured from.
        target: What they shall be measured from.

    Returns:
        Waypoints in the dtype given; a copy where the readings are equal.

    Raises:
        SettingError: If a reading is unknown.
        ShapeError: If the last axis is not 3.

    Examples:
        >>> convert_waypoints(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]), "consecutive", "from_start")
        tensor([[1., 0., 0.],
                [2., 0., 0.]])
    """
    start = torch.zeros(*waypoints.shape[:-2], 3, dtype=torch.float64, device=waypoints.device)
    _check(waypoints, start, source)
    _check(waypoints, start, target)
    if source == target:
        return waypoints.clone()
    poses = integrate_waypoints(waypoints.double(), start, reading=source)
    return waypoints_between(poses, start, reading=target).to(waypoints.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class StopRule:
    """A chunk of almost no motion says stop.

    The way and the turns are summed over the chunk, so that driving in a circle or looking left and right is no stop.
    Padding that is marked as such does not count; a NaN that is not keeps a chunk from stopping.

    Args:
        distance_m: Longest way of a chunk that stops [m].
        angle_rad: Most turning of a chunk that stops [rad].

    Raises:
        SettingError: If a number is negative or not finite.

    Examples:
        >>> rule = StopRule(distance_m=0.1, angle_rad=0.1)
        >>> rule(torch.tensor([[0.02, 0.0, 0.01]] * 4)), rule(torch.tensor([[0.02, 0.0, 0.03]] * 4))
        (tensor(True), tensor(False))

    Source:
        Qwen-VLA, arXiv 2605.30280, describes no stop output. A re-implementation of it (uni-vln-joynav) stops at a
        near-zero displacement over the chunk; its numbers belong to VLN-CE, whose steps are 0.25 m and 15 degrees.
    """

    distance_m: float = 0.1
    angle_rad: float = math.radians(10)

    def __post_init__(self) -> None:
        for name, value in (("distance_m", self.distance_m), ("angle_rad", self.angle_rad)):
            if not 0 <= value < math.inf:
                raise SettingError(f"{name} must be at least 0 and finite, got {value}. Give half a small step.")

    def __call__(
        self,
        waypoints: Float[Tensor, "*batch step 3"],
        *,
        reading: WaypointReading = "consecutive",
        mask: Bool[Tensor, "*batch step"] | None = None,
    ) -> Bool[Tensor, "*batch"]:
        """Whether chunks say stop.

        Args:
            waypoints: Chunks, in m and rad.
            reading: What their waypoints are measured from.
            mask: True where a waypoint is real; everywhere where None.

        Returns:
            True for a chunk that stops; False for a chunk without a real waypoint.

        Raises:
            SettingError: If `reading` is unknown.
            ShapeError: If the last axis is not 3.
        """
        steps = convert_waypoints(waypoints, reading, "consecutive").double()
        real = torch.ones_like(steps[..., 0], dtype=torch.bool) if mask is None else mask
        way = torch.where(real, steps[..., :2].norm(dim=-1), 0).sum(-1)
        turn = torch.where(real, wrap_angle(steps[..., 2]).abs(), 0).sum(-1)
        return (way <= self.distance_m) & (turn <= self.angle_rad) & real.any(-1)


def discrete_to_waypoints(
    actions: Sequence[int], *, step_m: float = 0.25, turn_rad: float = math.radians(15)
) -> Float[Tensor, "step 3"]:
    """One waypoint per discrete action, each from the one before it.

    Args:
        actions: Values of `DiscreteAction`; a stop may only be the last, and is a waypoint of no motion.
        step_m: Length of a step forward [m].
        turn_rad: Angle of a turn [rad].

    Returns:
        Waypoints, `consecutive`, float64.

    Raises:
        SettingError: If an action is unknown, something follows a stop, or a length is not positive.

    Examples:
        >>> discrete_to_waypoints([1, 2, 0]).round(decimals=4)
        tensor([[0.2500, 0.0000, 0.0000],
                [0.0000, 0.0000, 0.2618],
                [0.0000, 0.0000, 0.0000]], dtype=torch.float64)

    Source:
        VLN-CE (Krantz et al. 2020, arXiv 2004.02857): forward 0.25 m, turns of 15 degrees, stop.
    """
    _check_grid(step_m, turn_rad)
    unknown = sorted({int(action) for action in actions} - set(DiscreteAction))
    if unknown:
        raise SettingError(f"actions must be among {[*map(int, DiscreteAction)]}, got {unknown}. See DiscreteAction.")
    if DiscreteAction.STOP in actions[:-1]:
        raise SettingError(
            f"actions must end at the first stop, got {[*map(int, actions)]}. Cut what follows the stop."
        )
    motion = {
        DiscreteAction.STOP: (0.0, 0.0, 0.0),
        DiscreteAction.MOVE_FORWARD: (step_m, 0.0, 0.0),
        DiscreteAction.TURN_LEFT: (0.0, 0.0, turn_rad),
        DiscreteAction.TURN_RIGHT: (0.0, 0.0, -turn_rad),
    }
    rows = [motion[DiscreteAction(action)] for action in actions]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)


def waypoints_to_discrete(
    waypoints: Float[Tensor, "step 3"],
    *,
    reading: WaypointReading = "consecutive",
    stop: StopRule | None = None,
    step_m: float = 0.25,
    turn_rad: float = math.radians(15),
) -> list[DiscreteAction]:
    """Discrete actions that follow a chunk as closely as whole steps and turns can.

    For each waypoint in turn: where half a step or more is missing, turn towards it and go; then turn to its heading.
    What rounding leaves is carried to the next waypoint, so it does not add up. A waypoint that moves less than half a
    step and half a turn gives no action. The actions of VLN-CE come back from `discrete_to_waypoints` one by one.

    Args:
        waypoints: Chunk, in m and rad, finite.
        reading: What its waypoints are measured from.
        stop: When the whole chunk means a stop; `StopRule()` where None.
        step_m: Length of a step forward [m].
        turn_rad: Angle of a turn [rad].

    Returns:
        Actions; `[STOP]` alone where the chunk says stop, never a stop after motion.

    Raises:
        SettingError: If `reading` is unknown, a length is not positive, or a waypoint is not finite.
        ShapeError: If the chunk is not of shape (step, 3).

    Examples:
        >>> [action.name for action in waypoints_to_discrete(torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, -0.26]]))]
        ['MOVE_FORWARD', 'MOVE_FORWARD', 'TURN_RIGHT']
        >>> waypoints_to_discrete(torch.zeros(8, 3))
        [<DiscreteAction.STOP: 0>]

    Source:
        The grid is that of VLN-CE, arXiv 2004.02857; the greedy way is ours.
    """
    _check_grid(step_m, turn_rad)
    if waypoints.ndim != 2:
        raise ShapeError(f"waypoints must have the shape (step, 3), got {tuple(waypoints.shape)}. Give one chunk.")
    if not bool(waypoints.isfinite().all()):
        raise SettingError(
            f"waypoints must be finite, got {waypoints.tolist()}. Cut the padding, and look for NaN in the policy."
        )
    rule = StopRule() if stop is None else stop
    if bool(rule(waypoints, reading=reading)):
        return [DiscreteAction.STOP]
    targets = integrate_waypoints(waypoints.double(), torch.zeros(3, dtype=torch.float64), reading=reading).tolist()
    actions: list[DiscreteAction] = []
    x = y = heading = 0.0
    for target_x, target_y, target_heading in targets:
        way, bearing = math.hypot(target_x - x, target_y - y), math.atan2(target_y - y, target_x - x)
        if way >= step_m / 2:
            heading = _turn(actions, heading, bearing, turn_rad)
            steps = max(0, round(way * math.cos(bearing - heading) / step_m))
            actions += [DiscreteAction.MOVE_FORWARD] * steps
            x, y = x + steps * step_m * math.cos(heading), y + steps * step_m * math.sin(heading)
        heading = _turn(actions, heading, target_heading, turn_rad)
    return actions


def _turn(actions: list[DiscreteAction], heading: float, wanted: float, turn_rad: float) -> float:
    """Append the turns that come nearest to a heading; returns the heading reached."""
    turns = round(math.remainder(wanted - heading, 2 * math.pi) / turn_rad)
    actions += [DiscreteAction.TURN_LEFT if turns > 0 else DiscreteAction.TURN_RIGHT] * abs(turns)
    return heading + turns * turn_rad


def _compose(pose: Tensor, waypoint: Tensor) -> Tensor:
    """Pose at a waypoint that is measured from a pose."""
    dx, dy, turn = waypoint.unbind(-1)
    x, y, heading = pose.unbind(-1)
    cosine, sine = heading.cos(), heading.sin()
    return torch.stack([x + cosine * dx - sine * dy, y + sine * dx + cosine * dy, wrap_angle(heading + turn)], dim=-1)


def _displacement(pose: Tensor, reached: Tensor) -> Tensor:
    """The waypoint from one pose to another, in the frame of the first."""
    dx, dy, turn = (reached - pose).unbind(-1)
    cosine, sine = pose[..., 2].cos(), pose[..., 2].sin()
    return torch.stack([cosine * dx + sine * dy, cosine * dy - sine * dx, wrap_angle(turn)], dim=-1)


def check_reading(reading: str) -> None:
    """Refuse an unknown reading of waypoints.

    Args:
        reading: What somebody says waypoints are measured from.

    Raises:
        SettingError: If it is no `WaypointReading`.
    """
    if reading not in get_args(WaypointReading):
        raise SettingError(f"reading must be one of {get_args(WaypointReading)}, got {reading!r}. Choose one.")


def _check(rows: Tensor, start: Tensor, reading: str) -> None:
    check_reading(reading)
    if rows.ndim < 2 or rows.shape[-1] != 3 or tuple(start.shape) != (*rows.shape[:-2], 3):
        raise ShapeError(
            f"waypoints or poses must have the shape (..., step, 3), and start (..., 3), got {tuple(rows.shape)} and "
            f"{tuple(start.shape)}. Cut the padded channels off."
        )


def _check_grid(step_m: float, turn_rad: float) -> None:
    for name, value in (("step_m", step_m), ("turn_rad", turn_rad)):
        if not 0 < value < math.inf:
            raise SettingError(f"{name} must be above 0 and finite, got {value}. VLN-CE has 0.25 m and 15 degrees.")
