"""R2R-CE and RxR-CE: the same routes in continuous space, for Habitat.

Users bring the files: `train.json.gz` beside `train_gt.json.gz`, `train_guide.json.gz` beside
`train_guide_gt.json.gz`.
Habitat's y points up and a robot looks along -z. Poses in the ground plane are `(x, -z, theta)`, with theta
counter-clockwise seen from above, as the waypoints of `vla_kit.actions` count it.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from vla_kit.data.readers._json_files import json_field, read_json
from vla_kit.errors import DataError

__all__ = ["ContinuousRoute", "read_vln_ce", "upright_yaw"]

_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ContinuousRoute:
    """One episode of VLN-CE.

    Args:
        episode_id: As in the file.
        trajectory_id: The route, which several instructions may share.
        scan: Name of the Matterport3D scan.
        instruction: The words.
        language: Such as `en-US`; R2R is English.
        start: Where the robot begins, in Habitat's axes [m].
        start_yaw_rad: Its turn about the vertical, counter-clockwise; at 0 it looks along -z [rad].
        goal: Where it shall stop, in Habitat's axes [m]; None in splits whose goals are kept secret.
        goal_radius_m: Distance at which the goal counts as reached [m].
        reference_path: The way that was meant, in Habitat's axes [m]; empty where it is kept secret.
        geodesic_m: Shortest way from start to goal, where the file has it [m].
        actions: Actions of the shortest way along the reference, where the file of ground truth is given.
        locations: Places along them, in Habitat's axes [m], where the file of ground truth is given.
    """

    episode_id: str
    trajectory_id: str
    scan: str
    instruction: str
    language: str
    start: Float[np.ndarray, "3"]
    start_yaw_rad: float
    goal: Float[np.ndarray, "3"] | None
    goal_radius_m: float
    reference_path: Float[np.ndarray, "point 3"]
    geodesic_m: float | None
    actions: tuple[int, ...] | None = None
    locations: Float[np.ndarray, "step 3"] | None = None

    @property
    def start_pose(self) -> tuple[float, float, float]:
        """Pose in the ground plane: x, -z [m] and theta [rad]."""
        theta = math.remainder(self.start_yaw_rad + math.pi / 2, 2 * math.pi)
        return float(self.start[0]), -float(self.start[2]), theta


def upright_yaw(quaternion: Sequence[float], *, scalar_last: bool = True) -> float | None:
    """Turn about the vertical y axis of a rotation about nothing else.

    Args:
        quaternion: Four numbers.
        scalar_last: Whether their order is x, y, z, w, as in the files of VLN-CE, or w, x, y, z.

    Returns:
        Angle in (-pi, pi] [rad]; None where the numbers are no rotation of norm 1, or one that tilts the robot. The
        same numbers cannot be upright in both orders, so this tells which one they have.

    Examples:
        >>> half = math.pi / 4
        >>> turned = [0.0, math.sin(half), 0.0, math.cos(half)]
        >>> round(upright_yaw(turned), 4), upright_yaw(turned, scalar_last=False)
        (1.5708, None)
    """
    x, y, z, w = quaternion if scalar_last else (*quaternion[1:], quaternion[0])
    if not (abs(math.hypot(x, y, z, w) - 1) <= _TOLERANCE and math.hypot(x, z) <= _TOLERANCE):
        return None
    yaw = math.remainder(2 * math.atan2(y, w), 2 * math.pi)
    return math.pi if yaw == -math.pi else yaw


def read_vln_ce(
    path: str | Path, *, ground_truth: str | Path | None = None, language: str | None = None
) -> list[ContinuousRoute]:
    """Read a split of R2R-CE or RxR-CE.

    Rotations are stored x, y, z, w. A file whose rotations stand upright only in the other order is read in that one,
    with a warning; one whose robots are tilted in both is refused. Episodes whose goal cannot be reached (a geodesic
    distance that is infinite, NaN or below 0), whose path is empty or whose words are missing are left out with a
    warning.

    Args:
        path: `.json` or `.json.gz`.
        ground_truth: The file of actions and places beside it; none is read where None.
        language: Keep episodes in this language, such as `en`, which `en-US` and `en-IN` are too; all where None.

    Returns:
        Episodes in the order of the file.

    Raises:
        DataError: If a file is missing or broken, an episode lacks a field or its ground truth, rotations are no
            rotations of an upright robot, or no episode is left.

    Warns:
        UserWarning: If episodes are left out, or rotations have the other order.

    Source:
        VLN-CE (Krantz et al. 2020, arXiv 2004.02857), the layout of its R2R_VLNCE_v1-3 and RxR_VLNCE_v0.
    """
    place = Path(path)
    content = read_json(place)
    rows = content.get("episodes") if isinstance(content, dict) else None
    if not (isinstance(rows, list) and all(isinstance(row, dict) for row in rows)):
        raise DataError(
            f"{place} must hold an object with episodes, got a {type(content).__name__}. Use read_vln for R2R."
        )
    truth = None if ground_truth is None else read_json(Path(ground_truth))
    scalar_last = _scalar_last([_field(row, "start_rotation", place, list) for row in rows], place)
    routes: list[ContinuousRoute] = []
    left_out: list[str] = []
    for row in rows:
        route = _route(row, place, scalar_last=scalar_last, truth=truth, truth_place=ground_truth)
        if route is None:
            left_out.append(str(row.get("episode_id", "?")))
        else:
            routes.append(route)
    if left_out:
        warnings.warn(
            f"{place}: left out {len(left_out)} episodes with a goal out of reach, an empty path or no words: "
            f"{left_out[:8]}",
            stacklevel=2,
        )
    kept = [
        one for one in routes if language is None or one.language == language or one.language.startswith(f"{language}-")
    ]
    if not kept:
        raise DataError(
            f"{place} must hold an episode{'' if language is None else f' in {language!r}'}, got none of {len(rows)}, "
            f"whose languages are {sorted({one.language for one in routes})}. Check the file."
        )
    return kept


def _route(
    row: Mapping[str, Any],
    place: Path,
    *,
    scalar_last: bool,
    truth: Any,  # noqa: ANN401 (JSON)
    truth_place: str | Path | None,
) -> ContinuousRoute | None:
    words = _field(row, "instruction", place, dict)
    text = " ".join(str(words.get("instruction_text") or "").split())
    info = _field(row, "info", place, dict) if row.get("info") else {}
    geodesic = _number(info, "geodesic_distance", place)
    reachable = geodesic is None or (math.isfinite(geodesic) and geodesic >= 0)
    reference = None if row.get("reference_path") is None else _field(row, "reference_path", place, list)
    if not text or not reachable or (reference is not None and len(reference) == 0):
        return None
    goals = _field(row, "goals", place, list) if row.get("goals") else []
    if not all(isinstance(goal, dict) for goal in goals):
        raise DataError(f"{place}: goals must be objects with a position, got {goals!r:.80}. Give VLN-CE's file.")
    radius = _number(goals[0], "radius", place) if goals else None
    if radius is not None and not 0 <= radius < math.inf:
        raise DataError(f"{place}: radius of a goal must be at least 0 and finite, got {radius}. Drop the episode.")
    yaw = upright_yaw(row["start_rotation"], scalar_last=scalar_last)
    assert yaw is not None  # noqa: S101 (the order was chosen so)
    name = str(_field(row, "episode_id", place))
    actions, locations = (None, None) if truth is None else _truth(truth, name, truth_place)
    return ContinuousRoute(
        episode_id=name,
        trajectory_id=str(row.get("trajectory_id", name)),
        scan=Path(str(_field(row, "scene_id", place))).stem,
        instruction=text,
        language=str(words.get("language") or "en"),
        start=_points([_field(row, "start_position", place)], place, name)[0],
        start_yaw_rad=yaw,
        goal=_points([_field(goals[0], "position", place)], place, name)[0] if goals else None,
        goal_radius_m=radius or 3.0,
        reference_path=_points(reference or [], place, name),
        geodesic_m=geodesic,
        actions=actions,
        locations=locations,
    )


def _scalar_last(rotations: list[Any], place: Path) -> bool:
    """The order in which every robot of the file stands upright."""
    broken: dict[bool, Any] = {}
    for order in (True, False):
        tilted = [one for one in rotations if not _is_quaternion(one) or upright_yaw(one, scalar_last=order) is None]
        if not tilted:
            if not order:
                warnings.warn(
                    f"{place}: start_rotation stands upright as w, x, y, z alone, and is read so. VLN-CE's own files "
                    "have x, y, z, w.",
                    stacklevel=3,
                )
            return order
        broken[order] = tilted[0]
    raise DataError(
        f"{place}: start_rotation must be unit quaternions about the vertical, got {broken[True]} as x, y, z, w and "
        f"{broken[False]} as w, x, y, z. Check which axis points up."
    )


def _is_quaternion(numbers: list[Any]) -> bool:
    return len(numbers) == 4 and all(isinstance(number, int | float) for number in numbers)


def _number(row: Mapping[str, Any], key: str, place: Path) -> float | None:
    """A number that may be left out."""
    value = row.get(key)
    if value is not None and not isinstance(value, int | float):
        raise DataError(f"{place}: {key} must be a number, got {value!r:.80}. Give VLN-CE's file.")
    return None if value is None else float(value)


def _truth(
    truth: Any,  # noqa: ANN401 (JSON)
    name: str,
    place: str | Path | None,
) -> tuple[tuple[int, ...], Float[np.ndarray, "step 3"]]:
    found = truth.get(name) if isinstance(truth, dict) else None
    if not isinstance(found, dict) or not {"actions", "locations"} <= found.keys():
        raise DataError(
            f"{place} must hold actions and locations of episode {name!r}, got {found!r:.80}. Give the file of ground "
            "truth of the same split."
        )
    actions = found["actions"]
    if not isinstance(actions, list) or not all(isinstance(one, int) for one in actions):
        raise DataError(f"{place}: actions of episode {name!r} must be integers, got {actions!r:.80}. Fetch it again.")
    return tuple(actions), _points(found["locations"], Path(str(place)), name)


def _points(rows: Any, place: Path, name: str) -> Float[np.ndarray, "point 3"]:  # noqa: ANN401 (JSON)
    try:
        points = np.array(rows, dtype=np.float64).reshape(len(rows), 3)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{place}: places of episode {name!r} must be three numbers each, got {rows!r:.80}. Drop the episode."
        ) from error
    if not np.isfinite(points).all():
        raise DataError(f"{place}: places of episode {name!r} must be finite, got {rows!r:.80}. Drop the episode.")
    return points


def _field(row: Mapping[str, Any], key: str, place: Path, kind: type = object) -> Any:  # noqa: ANN401 (JSON)
    return json_field(row, key, kind, place=place, episode=row.get("episode_id", "?"), remedy="Give VLN-CE's file.")
