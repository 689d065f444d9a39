"""VLN-CE as text and waypoints: instructions with the motion along their path, without pictures."""

import math
from pathlib import Path
from typing import Final

from vla_kit.actions import DiscreteAction, discrete_to_waypoints
from vla_kit.data._name import check_name
from vla_kit.data.memory_source import MemoryEpisode, MemorySource
from vla_kit.data.readers.vln_ce import read_vln_ce
from vla_kit.errors import DataError, SettingError

__all__ = ["open_vln_ce"]

_STEP_M: Final = 0.25


def open_vln_ce(
    root: str | Path,
    *,
    name: str | None = None,
    ground_truth: str | None = None,
    language: str | None = None,
    turn_degrees: float = 15.0,
) -> MemorySource:
    """Open a split of R2R-CE or RxR-CE for training on text and actions.

    The column `action` has a waypoint `(dx, dy, dtheta)` per action of the ground truth, each from the one before it; a
    stop at the end is a waypoint of no motion. There are no cameras: pictures need Habitat and the scans. The file
    knows no rate, so a `DemonstrationSet` has to say `rate_hz`.

    Args:
        root: `.json` or `.json.gz` of a split.
        name: Name of the data set; that of the file where None.
        ground_truth: The file with the actions; where None the one beside it, `train_gt.json.gz` for `train.json.gz`.
        language: Keep episodes in this language, see `read_vln_ce`.
        turn_degrees: Angle of a turn; 30 in RxR-CE.

    Returns:
        The episodes, in memory.

    Raises:
        DataError: If a file is missing or broken, or an episode has no action; see `read_vln_ce`.
        SettingError: If actions are unknown or go on after a stop, `turn_degrees` lies outside (0, 360), or a
            name is empty.

    Source:
        Qwen-VLA, arXiv 2605.30280, stage I, trains on text and trajectories. That VLN-CE's are among them is our guess.
    """
    check_name("ground_truth", ground_truth)
    if not 0 < turn_degrees < 360:
        raise SettingError(f"turn_degrees must lie in (0, 360), got {turn_degrees}. Use 15, or 30 for RxR-CE.")
    place = Path(root)
    stem = place.name.split(".json")[0]
    truth = place.with_name(place.name.replace(stem, f"{stem}_gt", 1)) if ground_truth is None else Path(ground_truth)
    episodes = []
    for route in read_vln_ce(place, ground_truth=truth, language=language):
        actions = route.actions or ()
        if all(action == DiscreteAction.STOP for action in actions):
            raise DataError(f"{truth}: actions of episode {route.episode_id!r} must move, got {actions}. Drop it.")
        waypoints = discrete_to_waypoints(actions, step_m=_STEP_M, turn_rad=math.radians(turn_degrees))
        episodes.append(MemoryEpisode(columns={"action": waypoints.numpy()}, instruction=route.instruction))
    return MemorySource(episodes, name=stem if name is None else name)
